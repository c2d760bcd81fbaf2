"""The tables of a device's database, by numbered migrations, and its transactions.

The same for SQLite (simulated devices) and SQLCipher (a person's vault): both drivers' connections
have one interface. Every write is on disk before the call returns (synchronous=FULL), so that what
was charged stays charged through a crash.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

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
    """
    ALTER TABLE releases ADD COLUMN epsilon REAL;
    ALTER TABLE releases ADD COLUMN delta REAL;
    ALTER TABLE uploads ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE uploads ADD COLUMN federation TEXT NOT NULL DEFAULT '';
    CREATE TABLE records (
        id INTEGER PRIMARY KEY, kind TEXT NOT NULL, at TEXT, split TEXT, content TEXT NOT NULL,
        source TEXT NOT NULL, digest BLOB NOT NULL UNIQUE
    );
    """,
    """
    ALTER TABLE releases ADD COLUMN evaluation_noise REAL;
    ALTER TABLE releases ADD COLUMN evaluation_data TEXT NOT NULL DEFAULT '';
    """,
    "ALTER TABLE releases ADD COLUMN count_noise REAL;",
    """
    CREATE TABLE incoming (
        id INTEGER PRIMARY KEY, import TEXT NOT NULL, kind TEXT NOT NULL, at TEXT, split TEXT,
        content TEXT NOT NULL, source TEXT NOT NULL, digest BLOB NOT NULL
    );
    """,
    """
    CREATE TABLE memory_items (
        id INTEGER PRIMARY KEY, text TEXT NOT NULL, conversation TEXT,
        pinned INTEGER NOT NULL DEFAULT 0, off INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE memory_vectors (
        item INTEGER PRIMARY KEY, model TEXT NOT NULL, vector BLOB NOT NULL
    );
    CREATE VIRTUAL TABLE memory_words USING fts5 (
        text, content='memory_items', content_rowid='id',
        tokenize='porter unicode61 remove_diacritics 2'
    );
    CREATE TRIGGER memory_is_indexed AFTER INSERT ON memory_items BEGIN
        INSERT INTO memory_words (rowid, text) VALUES (NEW.id, NEW.text);
    END;
    CREATE TRIGGER memory_is_forgotten AFTER DELETE ON memory_items BEGIN
        INSERT INTO memory_words (memory_words, rowid, text) VALUES ('delete', OLD.id, OLD.text);
        DELETE FROM memory_vectors WHERE item = OLD.id;
    END;
    CREATE TRIGGER records_leave_memory AFTER DELETE ON records BEGIN
        DELETE FROM memory_items WHERE id = OLD.id;
    END;
    """,
)


def prepare(db: sqlite3.Connection, name: str) -> None:
    """Bring an open database to this software's version and set how it writes.

    Args:
        name: What an error calls it.

    Raises:
        PrivityError: For a version that this software does not know.
    """
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA recursive_triggers=ON")  # so that REPLACE cannot delete a row
    version = version_of(db)
    if version > len(MIGRATIONS):
        raise PrivityError(f"{name} has version {version}; this software knows less.")
    if version < len(MIGRATIONS):
        _migrate(db)


def version_of(db: sqlite3.Connection) -> int:
    """How many migrations the database has been through; 0 for an empty one."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of it or none of it; nobody else writes meanwhile. One within another is part of it."""
    if db.in_transaction:
        yield
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk has rolled it back already
            db.execute("ROLLBACK")
        raise


def _migrate(db: sqlite3.Connection) -> None:
    with transaction(db):
        first = version_of(db)  # again: another process may just have done it
        for script in MIGRATIONS[first:]:
            for statement in _statements(script):
                db.execute(statement)
        db.execute(f"PRAGMA user_version={len(MIGRATIONS)}")


def _statements(script: str) -> Iterator[str]:
    """One by one: `executescript` would end the transaction it runs in."""
    statement = ""
    for part in script.split(";")[:-1]:
        statement += part + ";"
        if sqlite3.complete_statement(statement):  # a trigger has semicolons of its own
            yield statement
            statement = ""
