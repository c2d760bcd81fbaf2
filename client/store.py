"""A device's own store: ledger, upload journal and state, in one SQLite file.

Every write is committed to disk before the call returns (synchronous=FULL), so that what was
charged stays charged through a crash. Numbered migrations; an unknown version is refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from client.ledger import Ledger
from common.errors import PrivityError

MIGRATIONS = (
    """
    CREATE TABLE ledger (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL, round INTEGER NOT NULL,
        attempt INTEGER NOT NULL, noise_multiplier REAL NOT NULL, sample_rate REAL NOT NULL,
        steps INTEGER NOT NULL, UNIQUE (run, round, attempt)
    );
    CREATE TABLE uploads (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL, round INTEGER NOT NULL,
        attempt INTEGER NOT NULL, what TEXT NOT NULL, bytes INTEGER NOT NULL
    );
    CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL);
    """,
    """
    CREATE TABLE releases (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL, round INTEGER NOT NULL,
        attempt INTEGER NOT NULL, guarantee TEXT NOT NULL CHECK (guarantee IN ('record', 'user')),
        noise_multiplier REAL, sample_rate REAL, steps INTEGER, rho REAL,
        data TEXT NOT NULL, version TEXT NOT NULL, at INTEGER NOT NULL,
        UNIQUE (run, round, attempt, guarantee),
        CHECK (guarantee = 'user' OR steps IS NOT NULL), CHECK (guarantee = 'record' OR rho >= 0)
    );
    INSERT INTO releases (run, round, attempt, guarantee, noise_multiplier, sample_rate, steps,
        rho, data, version, at)
        SELECT run, round, attempt, 'record', noise_multiplier, sample_rate, steps,
        NULL, '', '0.1.0', 0 FROM ledger ORDER BY id;
    INSERT INTO releases (run, round, attempt, guarantee, rho, data, version, at)
        SELECT run, round, attempt, 'user', 9e999, '', '0.1.0', 0 FROM ledger ORDER BY id;
    DROP TABLE ledger;
    CREATE TRIGGER releases_are_never_deleted BEFORE DELETE ON releases
        BEGIN SELECT RAISE (ABORT, 'the ledger is append-only'); END;
    CREATE TRIGGER releases_are_never_changed BEFORE UPDATE ON releases
        BEGIN SELECT RAISE (ABORT, 'the ledger is append-only'); END;
    """,
)


@dataclass(frozen=True, slots=True)
class Upload:
    """One message that left the device."""

    run: str
    round: int
    attempt: int
    what: str
    bytes: int


class Store:
    """Open (creating if needed) the store at `path`; one connection, closed with `close`."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA recursive_triggers=ON")  # so that REPLACE cannot delete a row
        self._migrate(path)
        self.ledger = Ledger(self._db)

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        self._db.close()

    def journal(self, upload: Upload) -> None:
        """Enter a message in the journal of what left the device."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO uploads (run, round, attempt, what, bytes) VALUES (?, ?, ?, ?, ?)",
                (upload.run, upload.round, upload.attempt, upload.what, upload.bytes),
            )

    def uploads(self) -> list[Upload]:
        """Everything that left the device, in order."""
        rows = self._db.execute("SELECT run, round, attempt, what, bytes FROM uploads ORDER BY id")
        return [Upload(*row) for row in rows]

    def put(self, key: str, value: bytes) -> None:
        """Keep a blob under a key, replacing what was there."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (key, value))

    def get(self, key: str) -> bytes | None:
        """The blob under a key, or None."""
        row = self._db.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def count(self, key: str, more: int) -> None:
        """Add to a number kept under a key; it starts at 0."""
        self.put(key, str(self.counted(key) + more).encode())

    def counted(self, key: str) -> int:
        """The number kept under a key."""
        return int(self.get(key) or b"0")

    def drop(self, key: str) -> None:
        """Forget the blob under a key."""
        with self._transaction():
            self._db.execute("DELETE FROM state WHERE key = ?", (key,))

    def keys(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`."""
        rows = self._db.execute(
            "SELECT key FROM state WHERE substr(key, 1, ?) = ?", (len(prefix), prefix)
        )
        return [row[0] for row in rows]

    def _migrate(self, path: Path) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise PrivityError(f"{path} has version {version}; this software knows less.")
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            self._db.executescript(f"BEGIN; {script}; PRAGMA user_version={number}; COMMIT;")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
