"""SQLCipher connections whose errors are sentences a person can act on."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, cast

from sqlcipher3 import dbapi2

from common.errors import InputError, PrivityError

PATIENCE_S = 30.0  # how long to wait for another process that is writing
DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT")
FULL = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")


class _Cursor(dbapi2.Cursor):  # type: ignore[misc]
    """Damage is often met only when the next row is read."""

    def execute(self, *arguments: Any) -> Any:
        return self._told(super().execute, *arguments)

    def executemany(self, *arguments: Any) -> Any:
        return self._told(super().executemany, *arguments)

    def fetchone(self) -> Any:
        return self._told(super().fetchone)

    def fetchall(self) -> Any:
        return self._told(super().fetchall)

    def fetchmany(self, *arguments: Any) -> Any:
        return self._told(super().fetchmany, *arguments)

    def __next__(self) -> Any:
        return self._told(super().__next__)

    def _told(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except (dbapi2.OperationalError, dbapi2.DatabaseError) as error:
            told = self.connection.told(error)
        raise told


class _Connection(dbapi2.Connection):  # type: ignore[misc]
    file: Path

    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)

    def execute(self, *arguments: Any) -> Any:
        return self.cursor().execute(*arguments)

    def executemany(self, *arguments: Any) -> Any:
        return self.cursor().executemany(*arguments)

    def told(self, error: Exception) -> Exception:
        """What to raise instead; constraints and mistakes in SQL are the caller's own."""
        name = str(getattr(error, "sqlite_errorname", ""))
        if name.startswith(DAMAGED):
            return damaged(self.file)
        if name.startswith(FULL):
            problem = f"{self.file} could not be written or read: {error}."
            hint = "Make room on the disk, and see that the folder is yours. Nothing was lost."
            return InputError(problem, hint)
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            problem = f"Another process has been writing {self.file} for {PATIENCE_S:.0f} seconds."
            return PrivityError(problem, "Try again.")
        return error


def damaged(file: Path) -> InputError:
    """The error for a database that is not what was written."""
    return InputError(f"{file} is damaged.", "Restore it from a backup.")


def connect(file: Path, key: bytes) -> sqlite3.Connection:
    """Open an encrypted database; the file must exist, and may be empty.

    Args:
        key: 32 bytes, used as they are.

    Returns:
        A connection without implicit transactions; both drivers' have one interface.

    Raises:
        InputError: When the file is damaged or cannot be used, or the key is not its own.
    """
    uri = f"{file.absolute().as_uri()}?mode=rw"
    try:
        db = dbapi2.connect(
            uri, uri=True, isolation_level=None, timeout=PATIENCE_S, factory=_Connection
        )
    except dbapi2.Error as error:
        raise InputError(f"{file} cannot be opened: {error}.") from None
    db.file = file
    try:
        db.execute("PRAGMA cipher_log_level = NONE")
        db.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
        db.execute("PRAGMA temp_store = MEMORY")  # nothing unencrypted beside it
        db.execute("PRAGMA secure_delete = ON")  # what is removed is overwritten
        db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    except BaseException:
        db.close()
        raise
    return cast(sqlite3.Connection, db)
