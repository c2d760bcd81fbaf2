"""The person's records, as they were imported."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from client.vault.database import transaction
from common.records.records import Record, record_of


@dataclass(frozen=True, slots=True)
class Added:
    """What an import came to: records that are new, and those that were there already."""

    new: int
    known: int


class Collection:
    """The records in a vault's open database."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add(
        self, records: Iterable[Record], source: str, step: Callable[[], None] = lambda: None
    ) -> Added:
        """Keep the records that are not there yet: all of them, or none when something fails.

        Two records are the same when all of their keys are. Without a time the second "ok" of one
        source is another "ok", not the same: then it also counts how often it came before.

        Args:
            source: Where they come from, such as a file's name.
            step: Called for each record.
        """
        rows = []  # made before the transaction, which keeps others from writing
        before: Counter[str] = Counter()
        for record in records:
            content = json.dumps(record.values, ensure_ascii=False, sort_keys=True)
            place = json.dumps([record.kind, record.at, record.split, content])
            digest = hashlib.sha256(f"{place}{before[place] or ''}".encode()).digest()
            before[place] += record.at is None
            rows.append((record.kind, record.at, record.split, content, source, digest))
            step()
        with transaction(self._db):
            changes = self._db.total_changes
            self._db.executemany(
                "INSERT INTO records (kind, at, split, content, source, digest)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING",
                rows,
            )
            new = self._db.total_changes - changes
        return Added(new, len(rows) - new)

    def all(self, kind: str | None = None) -> list[Record]:
        """All records, or those of one kind, in the order of their import."""
        rows = self._db.execute(
            "SELECT kind, content, at, split FROM records WHERE ? IN (kind, '') ORDER BY id",
            (kind or "",),
        )
        return [
            record_of(found, json.loads(content), at, split) for found, content, at, split in rows
        ]

    def state(self) -> tuple[int, int]:
        """Two numbers that change whenever a record comes or goes."""
        row = self._db.execute("SELECT COUNT(*), COALESCE(MAX(id), 0) FROM records").fetchone()
        return row[0], row[1]

    def counts(self) -> dict[str, int]:
        """How many records there are of each kind."""
        return dict(self._db.execute("SELECT kind, COUNT(*) FROM records GROUP BY kind ORDER BY 1"))
