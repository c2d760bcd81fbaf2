"""Whether the folder of a run that is to be continued is whole, before anything in it is changed.

A device's ledger that is gone or empty would let it spend its ε a second time.
"""

from __future__ import annotations

import math
import re
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from client.vault.database import version_of
from common.errors import InputError, PrivityError
from common.rounds.outcomes import DONE, OUTCOMES
from common.system import strict_json
from server.registry.provenance import read_provenance, read_spending
from server.registry.registry import RoundEntry, entries, evaluations

DAMAGED = (
    ValueError, TypeError, KeyError, OSError, EOFError, AssertionError, RecursionError,
    zipfile.BadZipFile, sqlite3.DatabaseError, PrivityError,
)  # fmt: skip


def check_intact(folder: Path) -> None:
    """Read every file of the run's folder that a continued run goes by.

    Raises:
        InputError: Naming the first that is missing or damaged.
    """
    for pattern, check in CHECKS.items():
        for file in sorted(folder.glob(pattern)):
            try:
                check(file)
            except DAMAGED:
                raise _damaged(file) from None
    if not (folder / "people.sha256").exists():
        raise _damaged(folder / "people.sha256")
    _check_nothing_missing(folder)


def _damaged(file: Path) -> InputError:
    what = "is damaged" if file.exists() else "is missing"
    hint = "Nothing was changed. Restore it from a copy, or start a new run in another --out."
    return InputError(f"{file} {what}.", hint)


def _check_nothing_missing(folder: Path) -> None:
    """Finished rounds have their adapters and the devices their ledgers."""
    try:
        rounds = entries(folder / "server")
        evaluations(folder / "server")
    except DAMAGED:
        raise _damaged(folder / "server" / "rounds") from None
    for place, entry in enumerate(rounds, start=1):
        if entry.round != place:
            raise _damaged(folder / "server" / "rounds" / f"{place:04d}.json")
        adapter = folder / "server" / "adapters" / f"{entry.round:04d}.npz"
        if entry.status == DONE and not adapter.exists():
            raise _damaged(adapter)
    numbers = [int(file.stem) for file in (folder / "devices").glob("*.db")]
    for number in range(max(numbers, default=-1) + 1):
        if rounds and number not in numbers and _everybody_takes_part(folder):
            raise _damaged(folder / "devices" / f"{number:05d}.db")


def _everybody_takes_part(folder: Path) -> bool:
    settings = strict_json.decode((folder / "settings.json").read_text(encoding="utf-8"))
    return not settings["cohort"] or settings["cohort"] == settings["users"]


def _hash(file: Path) -> None:
    assert re.fullmatch("[0-9a-f]{64}", file.read_text(encoding="utf-8"))


def _seconds(file: Path) -> None:
    assert math.isfinite(float(file.read_text(encoding="utf-8")))


def _key(file: Path) -> None:
    assert len(file.read_bytes()) == 32


def _name(file: Path) -> None:
    assert file.read_text(encoding="utf-8").strip()


def _round(file: Path) -> None:
    entry = RoundEntry(**strict_json.decode(file.read_text(encoding="utf-8")))
    assert entry.status in OUTCOMES
    assert isinstance(entry.round, int)


def _attempt(file: Path) -> None:
    float(file.read_text(encoding="utf-8") or 0)


def _adapter(file: Path) -> None:
    with np.load(file, allow_pickle=False) as stored:
        assert all(stored[name].dtype.kind in "if" for name in ("vector", "steps"))


def _spending(file: Path) -> None:
    read_spending(file)


def _origin(file: Path) -> None:
    read_provenance(file)


def _evaluation(file: Path) -> None:
    assert isinstance(strict_json.decode(file.read_text(encoding="utf-8")), dict)


def _database(file: Path) -> None:
    assert file.stat().st_size
    with closing(sqlite3.connect(file, timeout=30)) as db:
        assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)
        assert version_of(db)
        db.execute("SELECT COUNT(*) FROM uploads")


CHECKS: dict[str, Callable[[Path], None]] = {
    "people.sha256": _hash,
    "seconds": _seconds,
    "run-id": _name,
    "authority.key": _key,
    "server/rounds/*.json": _round,
    "server/attempts/*[0-9]": _attempt,
    "server/adapters/*.npz": _adapter,
    "server/adapters/*.json": _origin,
    "server/spent.json": _spending,
    "devices/*.db": _database,
    "evaluation/*.json": _evaluation,
}
