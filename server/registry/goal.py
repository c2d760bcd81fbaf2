"""How far an operator wants a federation to go: kept beside its rounds, to outlive a crash.

A simulation has no such file and runs all of its rounds at once.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from common.errors import InputError
from common.system import files

FILE, LOCK, ROUND, TURN = "plan.json", "rounds.lock", "round.lock", "turn.lock"


@dataclass(frozen=True, slots=True)
class Plan:
    """Rounds are made until `until` have an outcome, at least `every_s` seconds apart at the start.

    An outcome that nobody was charged for counts here, so that whoever asks for three gets three
    attempts and not one without an end. It does not count in the federation's own plan.
    """

    until: int
    every_s: float = 0.0


def read_plan(folder: Path) -> Plan | None:
    """What was last asked for, if anything.

    Raises:
        InputError: The file is damaged.
    """
    file = folder / FILE
    if not file.exists():
        return None
    try:
        return _plan(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError):
        hint = "Ask for rounds again with `privity-server run`."
        raise InputError(f"{file} is damaged.", hint) from None


def write_plan(folder: Path, plan: Plan) -> None:
    """Ask for it; whole or not at all."""
    files.write(folder / FILE, json.dumps(asdict(plan)))


def _plan(found: dict[str, Any]) -> Plan:
    plan = Plan(**found)
    if type(plan.until) is not int or not 0 <= plan.every_s < float("inf"):
        raise ValueError(plan)
    return plan


def rounds_done(folder: Path) -> int:
    """How many rounds have happened; the next one's number is one more."""
    return len(list((folder / "server" / "rounds").glob("*.json")))


def left_unspent(folder: Path) -> int:
    """How many attempts were abandoned before anybody was charged."""
    return len(list((folder / "server" / "uncharged").glob("*.json")))


def last_asked(folder: Path, planned: int) -> int:
    """Number of the last round to make: `planned` at most, less where attempts came to nothing.

    A simulation is asked for all that are planned.
    """
    asked = read_plan(folder)
    return min(planned, (asked.until if asked else planned) - left_unspent(folder))


@contextmanager
def making_rounds(folder: Path) -> Iterator[None]:
    """Held by the one process that makes rounds; a second one waits until it has ended."""
    with _held(folder / LOCK) as lock:
        lock.truncate(0)
        with suppress(OSError):  # a full disk: then nobody knows which process it is
            os.write(lock.fileno(), str(os.getpid()).encode())
        yield


def maker_of_rounds(folder: Path) -> int | None:
    """The process that makes rounds now, if any. The system frees the lock of one that died."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+") as lock:
        if _free(lock):
            return None
        lock.seek(0)
        return int(lock.read() or 0)


@contextmanager
def one_round(folder: Path) -> Iterator[None]:
    """Held from a round's start to its outcome; who waits in `between_rounds` comes first."""
    with ExitStack() as stack:
        with _held(folder / TURN):
            stack.enter_context(_held(folder / ROUND))
        yield


@contextmanager
def between_rounds(folder: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """No round is being made inside: waits for the end of one, and the next one waits for this.

    Args:
        waiting: Called when there is something to wait for.
    """
    if round_under_way(folder):
        waiting()
    with _held(folder / TURN), _held(folder / ROUND):
        yield


def round_under_way(folder: Path) -> bool:
    """Whether a round is being made at this moment, and not the pause between two."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ROUND).open("a+") as lock:
        return not _free(lock)


@contextmanager
def _held(file: Path) -> Iterator[TextIO]:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def _free(lock: TextIO) -> bool:
    """Shared, so that two who look do not take each other for the holder."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
