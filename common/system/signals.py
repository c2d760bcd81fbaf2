"""Which signals end a process of ours in order, and how a command is told of one.

A shell has whatever a script starts in the background ignore SIGINT, so that Ctrl-C ends what is
in front and nothing else (POSIX, "Shell Command Language", 2.11). What was ignored when a process
began stays ignored; SIGTERM ends every process of ours as Ctrl-C would.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

TERMINATED = 128 + signal.SIGTERM  # the exit code, as a shell gives it


class TerminatedError(BaseException):
    """SIGTERM came. No `except Exception` may swallow it, nor a conversation, as it does Ctrl-C."""


# What ends a process, and is no error of what it was doing. Everything else may be one: a panic of
# a library in Rust is no `Exception` either.
ENDS = (KeyboardInterrupt, SystemExit, GeneratorExit, TerminatedError)


def ending() -> list[signal.Signals]:
    """SIGTERM, and of SIGINT and SIGHUP what this process was not started to ignore.

    SIGHUP comes when the terminal goes; whoever starts a process under `nohup` has it ignored.
    """
    asked = [
        one for one in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(one) != signal.SIG_IGN
    ]
    return [signal.SIGTERM, *asked]


@contextlib.contextmanager
def raising_at_sigterm() -> Iterator[None]:
    """Within, SIGTERM raises `TerminatedError`, so that what was begun is put away.

    Only where it would have ended the process at once: elsewhere who embeds this code decides.
    """

    def end(*_: object) -> None:
        raise TerminatedError

    in_charge = threading.current_thread() is threading.main_thread()
    if not in_charge or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
