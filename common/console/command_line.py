"""What the three commands have in common: one-sentence errors, exit codes, quiet libraries."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from common.console.say import say_aside
from common.errors import InputError, PrivityError, disk_is_full
from common.system import quiet
from common.system.signals import TERMINATED, TerminatedError, raising_at_sigterm

INTERRUPTED = 130
STREAMS = (
    ("stdin", "r", "replace"), ("stdout", "w", "backslashreplace"),
    ("stderr", "w", "backslashreplace"),
)  # fmt: skip
UNUSABLE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR,
    errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP, errno.EFBIG, errno.EBUSY,
    errno.ETXTBSY, errno.ENXIO, errno.ENODEV, errno.EINVAL,
}  # fmt: skip
NO_HOME = "home directory"  # in what pathlib says when the system knows none


class Parser(argparse.ArgumentParser):
    """argparse with the project's one-sentence errors, and options that are written out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> Any:
        """Raise `InputError`."""
        raise InputError(f"{message[0].upper()}{message[1:]}.", f"See `{self.prog} --help`.")


def run_command(
    parser: Callable[[], argparse.ArgumentParser],
    arguments: Sequence[str] | None,
    continuation: Callable[[Sequence[str]], str] = lambda _: "",
) -> int:
    """Parse, act, and turn errors into one sentence on stderr.

    Args:
        parser: Each command of it sets `action`, a function of the options to the exit code.
        continuation: What to say after "interrupted" or "terminated", from the arguments.

    Returns:
        The exit code: 0 done, 1 our fault, 2 the input's, 130 interrupted, 143 ended
        by SIGTERM.
    """
    quiet.this_process()
    _open_streams()
    made = parser()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        options = made.parse_args(given)
        with raising_at_sigterm():
            code = int(options.action(options))
        sys.stdout.flush()
        return code
    except PrivityError as error:
        _say(made.prog, str(error))
        return error.exit_code
    except BrokenPipeError:  # whoever read the output has seen enough
        _drop_output()
        return 0
    except KeyboardInterrupt:
        _say(made.prog, f"interrupted{continuation(given)}", before="\n")
        return INTERRUPTED
    except TerminatedError:
        _say(made.prog, f"terminated{continuation(given)}")
        return TERMINATED
    except Exception as error:
        told = _told(error)
        if told is None:
            raise
        _drop_output()
        _say(made.prog, str(told))
        return told.exit_code


def _open_streams() -> None:
    """Standard streams that are there, and take and give every text, whatever their encoding.

    One that the caller closed is `/dev/null`: else the next file to be opened would take its
    number, and a library that prints would write into it.
    """
    for name, mode, errors in STREAMS:
        stream = getattr(sys, name)
        if stream is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", errors=errors))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _drop_output() -> None:
    """What is still to be written to stdout cannot be, and is no second error at the end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _told(error: Exception) -> PrivityError | None:
    """The one sentence for an error of the system; None for a mistake of our own."""
    if isinstance(error, OSError):
        return _system_error(error)
    if isinstance(error, RuntimeError) and NO_HOME in str(error):
        hint = "Set HOME to a folder of yours, or name the folders (`--help`)."
        return InputError("This user has no home folder, as far as the system knows.", hint)
    if type(error).__module__ == "sqlite3" and type(error).__name__ == "OperationalError":
        hint = "Make room on the disk, and see that the folder is yours."
        return InputError(f"A database cannot be used: {error}.", hint)
    return None


def _system_error(error: OSError) -> PrivityError:
    what = error.filename if isinstance(error.filename, str) else None
    words = f"{what or 'A file'} cannot be used: {error.strerror or type(error).__name__}."
    if disk_is_full(error):
        return InputError(words, "Make room on the disk.")
    if error.errno == errno.EFBIG:
        return InputError(words, "Raise the limit on the size of files (`ulimit -f`).")
    if error.errno in UNUSABLE and not isinstance(error, ConnectionError):
        return InputError(words, "Name another place.")
    return PrivityError(f"The system refused: {error.strerror or error} ({type(error).__name__}).")


def _say(program: str, words: str, before: str = "") -> None:
    with contextlib.suppress(OSError, AttributeError):  # nobody listens
        say_aside(f"{before}{program}: {words}")
