"""The vault: one encrypted database with everything personal that a device keeps.

Records, adapters, keys, ledger, upload journal, settings and policy are in `vault.db` (SQLCipher:
AES-256 and HMAC-SHA512 on every page, its write-ahead log included). Beside it, `vault.json` says
how the key is kept (client/vault/unlocking.py) and `vault.lock` who owns it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Self

from client.vault import watermark
from client.vault.collection import Collection
from client.vault.database import version_of
from client.vault.ownership import Lock
from client.vault.sqlcipher import connect, damaged
from client.vault.store import Store
from client.vault.unlocking import KEY_BYTES, Header, Unlock, database_key, new_header
from common.errors import InputError, PrivityError
from common.system import files

DATABASE, HEADER, LOCK = "vault.db", "vault.json", "vault.lock"
UNFINISHED = "vault.new"  # a database that `create` was interrupted in making


class Vault:
    """An open vault; a context manager that closes it. Made by `create` and `open`.

    Attributes:
        folder: Where it is.
        store: Ledger, journal and state, on the vault's own connection.
        records: The person's records.
    """

    def __init__(self, folder: Path, db: sqlite3.Connection, header: Header, key: bytes) -> None:
        self.folder, self._db, self._header, self._key = folder, db, header, key
        self._lock: Lock | None = None
        self.store = Store(db, str(folder / DATABASE), lent=True)
        watermark.identify(self.store)
        self.records = Collection(db)

    @classmethod
    def create(cls, folder: Path, unlock: Unlock) -> Vault:
        """Make a vault in `folder`, which is made if needed and closed to others; it is owned.

        Interrupted at any moment it leaves either no vault or a whole one.

        Raises:
            InputError: When there is one already, or the folder cannot be used.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        except OSError as error:
            raise InputError(f"{folder} cannot be used: {error.strerror}.") from error
        lock = Lock(folder / LOCK)
        try:
            vault = cls._made(folder, unlock)
        except OSError as error:
            lock.release()
            raise InputError(f"{folder} cannot be used: {error.strerror}.") from error
        except BaseException:
            lock.release()
            raise
        vault._lock = lock
        return vault

    @classmethod
    def _made(cls, folder: Path, unlock: Unlock) -> Vault:
        _require_none(folder)
        key = os.urandom(KEY_BYTES)
        header = new_header(unlock, key)
        _make_database(folder, key)
        _write_header(folder, header)
        (folder / UNFINISHED).rename(folder / DATABASE)
        files.sync_folder(folder)
        return cls(folder, connect(folder / DATABASE, key), header, key)

    @classmethod
    def open(cls, folder: Path, unlock: Unlock, *, exclusive: bool = False) -> Vault:
        """Open the vault in `folder`.

        Args:
            exclusive: Own it: no other process may, until it is closed. Others may still open it
                without, to look or to add.

        Raises:
            InputError: No vault, the wrong secret, a damaged vault, or another process owns it.
        """
        header = read_header(folder)
        lock = Lock(folder / LOCK) if exclusive else None
        try:
            key = database_key(header, unlock)
            db = connect(folder / DATABASE, key)
            try:
                if version_of(db) == 0:  # an empty file, which would begin an empty ledger
                    raise damaged(folder / DATABASE)
                vault = cls(folder, db, header, key)
            except BaseException:
                db.close()
                raise
        except BaseException:
            if lock:
                lock.release()
            raise
        vault._lock = lock
        return vault

    @property
    def database(self) -> sqlite3.Connection:
        """The open connection, for parts of the client that keep tables of their own in it."""
        return self._db

    @property
    def kept(self) -> str:
        """How its key is kept: "keyring" or "passphrase"."""
        return str(self._header["kept"])

    def rekey(self, unlock: Unlock, old: Unlock | None = None) -> None:
        """Keep the key in another way, or under another passphrase.

        Args:
            old: Whose secret to forget once that is done.
        """
        before = self._header
        header = new_header(unlock, self._key)  # under a new id: the old secret stays good so far
        _write_header(self.folder, header)
        self._header = header
        if old:
            old.forget(before)

    def check(self) -> None:
        """Read every page and compare it with its authentication code.

        Raises:
            InputError: When one is not what was written.
        """
        broken = self._db.execute("PRAGMA cipher_integrity_check").fetchall()
        if broken or self._db.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            raise damaged(self.folder / DATABASE)

    def wipe_free_space(self) -> None:
        """Leave no copy of what was removed: not in any page, not in the write-ahead log.

        Deleted rows are overwritten as they go (`secure_delete`). But rows move between pages while
        they live, and what they leave behind in the gaps of a page is not: so every page is written
        anew, from the rows that there are. This takes as much memory as the vault is large.

        Raises:
            PrivityError: Another process is reading, for which the log must stay.
        """
        self._db.execute("VACUUM")
        busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            problem = "Another process is reading the vault, so older pages of it stay for now."
            raise PrivityError(problem, "Stop it, and give the same command again.")

    def close(self) -> None:
        """Close the database and give up ownership."""
        self._db.close()
        if self._lock:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_header(folder: Path) -> Header:
    """What `vault.json` says.

    Raises:
        InputError: When there is no vault, or the file is damaged.
    """
    try:
        header = json.loads((folder / HEADER).read_bytes())
    except FileNotFoundError:
        _require_all_or_nothing(folder)
        raise InputError(f"There is no vault in {folder}.", "`privity-client init`.") from None
    except OSError as error:
        raise InputError(f"{folder / HEADER} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise InputError(f"{folder / HEADER} is damaged.", "Restore it from a backup.")
    if not (folder / DATABASE).exists():
        if (folder / UNFINISHED).exists():
            raise InputError(f"There is no vault in {folder}.", "`privity-client init`.")
        raise InputError(f"{folder / DATABASE} is missing.", "Restore it from a backup.")
    return header


def _require_none(folder: Path) -> None:
    _require_all_or_nothing(folder)
    unfinished = (folder / UNFINISHED).exists() and not (folder / DATABASE).exists()
    if (folder / HEADER).exists() and not unfinished:
        problem = f"There is a vault in {folder} already."
        raise InputError(problem, "Use it, or name another folder with --home.")


def _require_all_or_nothing(folder: Path) -> None:
    if (folder / DATABASE).exists() and not (folder / HEADER).exists():
        problem = f"{folder / HEADER} is missing; without it {DATABASE} cannot be read."
        raise InputError(problem, "Restore it from a backup, or move the database away.")


def _make_database(folder: Path, key: bytes) -> None:
    file = folder / UNFINISHED
    for old in (file, *(folder / f"{UNFINISHED}-{end}" for end in ("wal", "shm"))):
        old.unlink(missing_ok=True)
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with contextlib.closing(connect(file, key)) as db:
        db.execute("PRAGMA journal_mode = WAL")  # for good: readers do not wait for the writer
        Store(db, str(file), lent=True)


def _write_header(folder: Path, header: Header) -> None:
    try:
        files.write(folder / HEADER, json.dumps(header, indent=2), mode=files.PRIVATE)
    except OSError as error:
        raise InputError(f"{folder / HEADER} cannot be written: {error.strerror}.") from error
