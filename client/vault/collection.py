"""The person's records, as they were imported."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from client.vault.database import transaction
from common.records.records import Record, record_of


@dataclass(frozen=True, slots=True)
class Added:
    """What an import came to: records that are new, and those that were there already."""

    new: int
    known: int


CHUNK = 5_000  # records; so many are in memory at a time
INTO_RECORDS = (
    "INSERT INTO records (kind, at, split, content, source, digest) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (digest) DO NOTHING"
)
INTO_INCOMING = (
    "INSERT INTO incoming (import, kind, at, split, content, source, digest)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
FROM_INCOMING = (
    "INSERT INTO records (kind, at, split, content, source, digest)"
    " SELECT kind, at, split, content, source, digest FROM incoming WHERE import = ? ORDER BY id"
    " ON CONFLICT (digest) DO NOTHING"
)
Row = tuple[str, str | None, str | None, str, str, bytes]


class Collection:
    """The records in a vault's open database."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add(
        self, records: Iterable[Record], source: str, step: Callable[[], None] = lambda: None
    ) -> Added:
        """Keep the records that are not there yet: all of them, or none when something fails.

        Two records are the same when all of their keys are. Without a time the second "ok" of one
        source is another "ok", not the same: then it also counts how often it came before. However
        many there are, memory holds few: the others wait in a table of their own, unseen, until
        the last has come.

        Args:
            source: Where they come from, such as a file's name.
            step: Called for each record.
        """
        self._forget_the_dead()
        name, count, waiting = _import_name(), 0, False
        try:
            for rows in _chunks(_rows(records, source, step)):
                count += len(rows)
                if len(rows) < CHUNK and not waiting:
                    with transaction(self._db):
                        return Added(new := self._changes(INTO_RECORDS, rows), count - new)
                waiting = True
                with transaction(self._db):
                    self._db.executemany(INTO_INCOMING, ((name, *row) for row in rows))
            if not waiting:
                return Added(0, 0)
            with transaction(self._db):
                new = self._changes(FROM_INCOMING, [(name,)])
                self._db.execute("DELETE FROM incoming WHERE import = ?", (name,))
            return Added(new, count - new)
        except BaseException:
            if waiting:
                with transaction(self._db):
                    self._db.execute("DELETE FROM incoming WHERE import = ?", (name,))
            raise

    def would_add(
        self, records: Iterable[Record], source: str, step: Callable[[], None] = lambda: None
    ) -> Added:
        """What `add` would come to; nothing is kept."""
        new, count = set[bytes](), 0
        for row in _rows(records, source, step):
            count += 1
            if not self._db.execute(
                "SELECT 1 FROM records WHERE digest = ?", (row[-1],)
            ).fetchone():
                new.add(row[-1][:16])
        return Added(len(new), count - len(new))

    def _changes(self, statement: str, rows: Iterable[tuple[object, ...]]) -> int:
        before = self._db.total_changes
        self._db.executemany(statement, rows)
        return self._db.total_changes - before

    def _forget_the_dead(self) -> None:
        """Drop what imports left behind whose process has ended."""
        names = self._db.execute("SELECT DISTINCT import FROM incoming").fetchall()
        if dead := [one for one in names if not _is_alive(*one)]:
            with transaction(self._db):
                self._db.executemany("DELETE FROM incoming WHERE import = ?", dead)

    def all(self, kind: str | None = None) -> list[Record]:
        """All records, or those of one kind, in the order of their import."""
        return list(self.each(kind))

    def each(self, kind: str | None = None) -> Iterator[Record]:
        """As `all`, one after another, in memory that does not grow with their number."""
        rows = self._db.execute(
            "SELECT kind, content, at, split FROM records WHERE ? IN (kind, '') ORDER BY id",
            (kind or "",),
        )
        for found, content, at, split in rows:
            yield record_of(found, json.loads(content), at, split)

    def items(self) -> Iterator[tuple[int, Record, str]]:
        """Number, record and source of each, as `each`."""
        rows = self._db.execute(
            "SELECT id, kind, content, at, split, source FROM records ORDER BY id"
        )
        for item, kind, content, at, split, source in rows:
            yield item, record_of(kind, json.loads(content), at, split), source

    def remove(self, items: Iterable[int]) -> None:
        """Remove these records, by number, and what interrupted imports left."""
        with transaction(self._db):
            self._db.executemany("DELETE FROM records WHERE id = ?", ((one,) for one in items))
            self._db.execute("DELETE FROM incoming")

    def state(self) -> tuple[int, int]:
        """Two numbers that change whenever a record comes or goes."""
        row = self._db.execute("SELECT COUNT(*), COALESCE(MAX(id), 0) FROM records").fetchone()
        return row[0], row[1]

    def counts(self) -> dict[str, int]:
        """How many records there are of each kind."""
        return dict(self._db.execute("SELECT kind, COUNT(*) FROM records GROUP BY kind ORDER BY 1"))


def _rows(records: Iterable[Record], source: str, step: Callable[[], None]) -> Iterator[Row]:
    before: Counter[bytes] = Counter()
    for record in records:
        content = json.dumps(record.values, ensure_ascii=False, sort_keys=True)
        place = json.dumps([record.kind, record.at, record.split, content])
        short = hashlib.sha256(place.encode()).digest()[:16]
        digest = hashlib.sha256(f"{place}{before[short] or ''}".encode()).digest()
        if record.at is None:
            before[short] += 1
        yield record.kind, record.at, record.split, content, source, digest
        step()


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    every = iter(rows)
    while chunk := list(islice(every, CHUNK)):
        yield chunk


def _import_name() -> str:
    """This process and moment: whoever finds the name can tell whether the process lives."""
    import psutil

    return f"{os.getpid()} {psutil.Process().create_time():.2f} {os.urandom(8).hex()}"


def _is_alive(name: str) -> bool:
    import psutil

    try:
        process, began, _ = name.split()
        return f"{psutil.Process(int(process)).create_time():.2f}" == began
    except (ValueError, psutil.Error):
        return False
