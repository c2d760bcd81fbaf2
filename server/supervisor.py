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

from server.journal import Journal

FIRST_PAUSE_S, LONGEST_PAUSE_S, STEADY_S = 0.5, 30.0, 60.0
GRACE_S = 10.0
COLORS = re.compile(r"\x1b\[[0-9;]*m")
PR_SET_PDEATHSIG = 1


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
    pause: float = FIRST_PAUSE_S


@dataclass(slots=True)
class Supervisor:
    """The processes, in the order in which they start."""

    parts: Sequence[Part]
    journal: Journal
    _running: dict[str, _Running] = field(default_factory=dict)
    _restarts: dict[str, int] = field(default_factory=dict)

    def start(self, patience_s: float = 60.0) -> None:
        """Start everything, each when the one before it is ready.

        Raises:
            TimeoutError: A part was not ready in time; the text names it.
        """
        for part in self.parts:
            self._running[part.name] = self._start(part)
            end = time.monotonic() + patience_s
            while not part.ready():
                self.tend()
                if time.monotonic() > end:
                    raise TimeoutError(part.name)
                time.sleep(0.1)

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
            process = running.process
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._running.clear()

    def _start(self, part: Part) -> _Running:
        process = subprocess.Popen(
            list(part.command),
            env=dict(part.environment),
            cwd=part.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_forget_children if part.parent else die_with_parent,
        )
        threading.Thread(
            target=self._listen, args=(part.name, process), name=part.name, daemon=True
        ).start()
        return _Running(part, process, time.monotonic())

    def _listen(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        for line in process.stdout:
            if words := COLORS.sub("", line).strip():
                self.journal.write(name, words)


def die_with_parent() -> None:
    """In the child: end when the supervisor is killed (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _forget_children() -> None:
    """In the child: as `die_with_parent`, and what it starts is gone when it ends."""
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
