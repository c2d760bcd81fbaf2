"""An import that is killed at any moment: all of its records are there, or none is seen."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from client.vault import collection
from client.vault.collection import Collection
from client.vault.database import prepare
from client.vault.sqlcipher import connect
from common.records.records import Fact

KEY, RECORDS = bytes(32), 3000


def facts(label: str) -> list[Fact]:
    return [Fact(text=f"{label} {number}") for number in range(RECORDS)]


def opened(file: Path) -> Collection:
    file.touch(0o600)
    db = connect(file, KEY)
    db.execute("PRAGMA journal_mode = WAL")
    prepare(db, "a vault")
    return Collection(db)


def imported(file: Path) -> None:
    """In a process of its own: import, and be gone."""
    opened(file).add(facts("mine"), "a file")
    os._exit(0)


@pytest.mark.parametrize(
    "kills", [5, pytest.param(100, marks=pytest.mark.long)], ids=["few", "many"]
)
def test_killed_at_any_moment(tmp_path: Path, kills: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "CHUNK", 100)
    chance, file = random.Random(kills), tmp_path / "vault.db"
    opened(file).add(facts("before"), "another file")
    began = time.monotonic()
    opened(tmp_path / "timed.db").add(facts("mine"), "a file")
    whole_s = time.monotonic() - began
    seen = set()
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            imported(file)
        time.sleep(chance.uniform(0, 1.3 * whole_s))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        records = opened(file)
        count = records.counts()["fact"]
        assert count in (RECORDS, 2 * RECORDS)
        seen.add(count)
        if count == 2 * RECORDS:
            records._db.execute("DELETE FROM records WHERE source = 'a file'")
    assert opened(file).add(facts("mine"), "a file").new == RECORDS
    left = opened(file)._db.execute("SELECT COUNT(*) FROM incoming").fetchone()
    assert left == (0,)
    assert kills < 100 or seen == {RECORDS, 2 * RECORDS}
