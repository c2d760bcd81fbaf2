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

from common.errors import PrivityError, ProtocolError
from common.privacy.accountant import Release

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
        self._migrate(path)

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        self._db.close()

    def charge(self, run: str, round_: int, attempt: int, release: Release) -> None:
        """Enter a release in the ledger, before anything of it is sent.

        Raises:
            ProtocolError: When this attempt at this round was charged already: nobody gets a
                second, differently masked update for it.
        """
        values = (run, round_, attempt, release.noise_multiplier, release.sample_rate)
        try:
            with self._transaction():
                self._db.execute(
                    "INSERT INTO ledger (run, round, attempt, noise_multiplier, sample_rate, steps)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (*values, release.steps),
                )
        except sqlite3.IntegrityError:
            raise ProtocolError(f"round {round_}, attempt {attempt} was charged already.") from None

    def releases(self) -> list[Release]:
        """All releases ever charged, in order."""
        rows = self._db.execute(
            "SELECT noise_multiplier, sample_rate, steps FROM ledger ORDER BY id"
        )
        return [Release(*row) for row in rows]

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

    def drop(self, key: str) -> None:
        """Forget the blob under a key."""
        with self._transaction():
            self._db.execute("DELETE FROM state WHERE key = ?", (key,))

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
