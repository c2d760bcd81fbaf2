"""Keeps a deployment's processes running: starts them, restarts what dies, ends them in order."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import InputError, PrivityError
from common.system.processes import PRIVATE
from server.deployment.journal import Journal

FIRST_PAUSE_S, LONGEST_PAUSE_S, STEADY_S = 0.5, 30.0, 60.0
GRACE_S, LAST_WORDS_S = 10.0, 2.0
LOOK_S, MOST_RESTARTS = 0.1, 5  # while a part is not ready
COLORS = re.compile(r"\x1b\[[0-9;]*m")
PR_SET_PDEATHSIG = 1


class PartFailedError(PrivityError):
    """A part of the deployment does not start."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process of a deployment.

    Attributes:
        ready: Whether it does its work; the next part waits for that.
        parent: It starts processes of its own and waits for none of them; the system does, so that
            no dead ones are left.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    ready: Callable[[], bool] = lambda: True
    parent: bool = False


@dataclass(slots=True)
class _Running:
    part: Part
    process: subprocess.Popen[str]
    since: float
    said: list[str]
    listener: threading.Thread
    pause: float = FIRST_PAUSE_S

    def last_words(self) -> str:
        """Its last line, once it has ended."""
        self.listener.join(LAST_WORDS_S)
        return self.said[-1] if self.said else f"The {self.part.name} said nothing."


@dataclass(slots=True)
class Supervisor:
    """The processes, in the order in which they start."""

    parts: Sequence[Part]
    journal: Journal
    _running: dict[str, _Running] = field(default_factory=dict)
    _restarts: dict[str, int] = field(default_factory=dict)

    def start(self, ended: threading.Event, slow_s: float = 60.0) -> None:
        """Start everything, each when the one before it is ready, until `ended`.

        One that lives is waited for, however slow it is.

        Args:
            slow_s: After how long the log says what is waited for, each time again.

        Raises:
            InputError: A part ended with the exit code that says that its input is wrong; in its
                words.
            PartFailedError: A part died again and again; in its last words.
        """
        for part in self.parts:
            self._running[part.name] = self._start(part)
            told = time.monotonic()
            while not part.ready() and not ended.wait(LOOK_S):
                running = self._running[part.name]
                code = running.process.poll()
                if code == InputError.exit_code:
                    raise InputError(running.last_words())
                if code is not None and self._restarts.get(part.name, 0) >= MOST_RESTARTS:
                    words = f"The {part.name} ended {MOST_RESTARTS + 1} times before it was ready: "
                    raise PartFailedError(words + running.last_words())
                self.tend()
                if time.monotonic() - told > slow_s:
                    told = time.monotonic()
                    self.journal.write("up", f"the {part.name} is starting still; it is waited for")
            if ended.is_set():
                return

    def tend(self) -> None:
        """Restart what has died, each time after a longer pause if it dies soon."""
        now = time.monotonic()
        for name, running in list(self._running.items()):
            if (code := running.process.poll()) is None:
                continue
            steady = now - running.since > STEADY_S
            pause = FIRST_PAUSE_S if steady else running.pause
            if now - running.since < pause:
                continue
            self.journal.write("up", f"{name} ended with code {code}; it is started again")
            self._restarts[name] = self._restarts.get(name, 0) + 1
            fresh = self._start(running.part)
            fresh.pause = FIRST_PAUSE_S if steady else min(2 * pause, LONGEST_PAUSE_S)
            self._running[name] = fresh

    def send(self, name: str, signum: signal.Signals) -> None:
        """Signal a part, if it runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._running[name].process.pid, signum)

    def end(self, name: str) -> None:
        """End a part; `tend` starts it again."""
        _end(self._running[name].process)

    def running(self) -> dict[str, int]:
        """Process id of each part that runs."""
        return {
            name: one.process.pid
            for name, one in self._running.items()
            if one.process.poll() is None
        }

    def restarts(self) -> dict[str, int]:
        """How often each part had to be started again."""
        return dict(self._restarts)

    def figures(self) -> dict[str, dict[str, int | None]]:
        """`pid` (None: it does not run) and `restarts` of each part."""
        running = self.running()
        return {
            part.name: {"pid": running.get(part.name), "restarts": self._restarts.get(part.name, 0)}
            for part in self.parts
        }

    def stop(self) -> None:
        """End everything, the last started first; what does not end in time is killed."""
        for running in reversed(list(self._running.values())):
            _end(running.process)
        self._running.clear()

    def _start(self, part: Part) -> _Running:
        process = subprocess.Popen(
            list(part.command),
            env=dict(part.environment),
            cwd=part.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            umask=PRIVATE,
            start_new_session=True,
            preexec_fn=_forget_children if part.parent else die_with_parent,
        )
        said: list[str] = []
        listener = threading.Thread(
            target=self._listen, args=(part.name, process, said), name=part.name, daemon=True
        )
        listener.start()
        return _Running(part, process, time.monotonic(), said, listener)

    def _listen(self, name: str, process: subprocess.Popen[str], said: list[str]) -> None:
        """Pass its lines on, and keep the last one in `said`."""
        assert process.stdout
        for line in process.stdout:
            if words := COLORS.sub("", line).strip():
                said[:] = [words]
                self.journal.write(name, words)


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def die_with_parent() -> None:
    """Called in the child: end it when the supervisor is killed (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _forget_children() -> None:
    """Called in the child: as `die_with_parent`; what it starts ends with it."""
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
