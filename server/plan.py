"""How far an operator wants a federation to go: kept beside its rounds, to outlive a crash.

A simulation has no such file and runs all of its rounds at once.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

FILE, LOCK = "plan.json", "rounds.lock"


@dataclass(frozen=True, slots=True)
class Plan:
    """Rounds are made up to number `until`, at least `every_s` seconds from start to start."""

    until: int
    every_s: float = 0.0


def read_plan(folder: Path) -> Plan | None:
    """What was last asked for, if anything."""
    file = folder / FILE
    return Plan(**json.loads(file.read_text())) if file.exists() else None


def write_plan(folder: Path, plan: Plan) -> None:
    """Ask for it; whole or not at all."""
    scratch = folder / f"{FILE}.{os.getpid()}"
    scratch.write_text(json.dumps(asdict(plan)))
    scratch.replace(folder / FILE)


def rounds_done(folder: Path) -> int:
    """How many rounds have an outcome."""
    return len(list((folder / "server" / "rounds").glob("*.json")))


@contextmanager
def making_rounds(folder: Path) -> Iterator[None]:
    """Held by the one process that makes rounds; a second one waits until it has ended."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def maker_of_rounds(folder: Path) -> int | None:
    """The process that makes rounds now, if any. The system frees the lock of one that died."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            return int(lock.read() or 0)
        return None
