"""Who may take part: invites and devices, in one SQLite file that outlives crashes.

A code is first bound to the keys that bring it, then the node is registered at Flower, then the
device is noted. Whoever dies in between is finished by the same request sent again: the same keys
find their code bound to them, Flower's registration of a known key answers with its number, and
the noted device is answered as before. Other keys find the code used. Until the device is noted
the gateway does not know its key, so that a half-done enrolment opens nothing.

A device goes (revoked, or by its own wish) in the other order: marked first, so that the gateway
refuses it at once, then unregistered at Flower; `settle` repeats what a crash left undone.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.enrolment.log import LIFE_S, RENEWED_WITHIN_S, EnrolmentLog, EntryKind, LogEntry
from common.enrolment.protocol import (
    EnrolRequest,
    LeaveRequest,
    MemberRequest,
    RenewRequest,
    code_digest,
    new_code,
    spell_code,
)
from common.errors import InputError, PrivityError, ProtocolError
from common.secagg import certify
from common.secagg.wire import U64_MAX

MIGRATIONS = (
    """
    CREATE TABLE invites (
        code_sha256 BLOB PRIMARY KEY, made_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
        used_at INTEGER, device_key BLOB, node_key BLOB,
        CHECK ((used_at IS NULL) = (device_key IS NULL)),
        CHECK ((used_at IS NULL) = (node_key IS NULL))
    );
    CREATE TABLE devices (
        member TEXT PRIMARY KEY, device_key BLOB NOT NULL UNIQUE, node_key BLOB NOT NULL UNIQUE,
        certificate BLOB NOT NULL, enrolled_at INTEGER NOT NULL,
        gone_at INTEGER, gone_why TEXT CHECK (gone_why IN ('revoked', 'left')),
        unregistered INTEGER NOT NULL DEFAULT 0,
        CHECK ((gone_at IS NULL) = (gone_why IS NULL))
    );
    """,
    """
    CREATE TABLE log (
        number INTEGER PRIMARY KEY, kind INTEGER NOT NULL, member TEXT NOT NULL,
        device_key BLOB NOT NULL, until INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX log_members ON log (member) WHERE kind = 1;
    CREATE UNIQUE INDEX log_keys ON log (device_key) WHERE kind = 1;
    CREATE TRIGGER log_stays BEFORE UPDATE ON log BEGIN SELECT RAISE(ABORT, 'append only'); END;
    CREATE TRIGGER log_grows BEFORE DELETE ON log BEGIN SELECT RAISE(ABORT, 'append only'); END;
    INSERT INTO log (kind, member, device_key, until)
        SELECT 1, member, device_key, CAST(strftime('%s', 'now') AS INTEGER) + 365 * 86400
        FROM devices ORDER BY enrolled_at, rowid;
    INSERT INTO log (kind, member, device_key, until)
        SELECT 3, member, device_key, gone_at
        FROM devices WHERE gone_at IS NOT NULL ORDER BY gone_at, rowid;
    """,
)
CLOCK_TOLERANCE_S = 300
MAX_HOURS = 24 * 365
HOUR_S = 3600
Register = Callable[[bytes], int]
Unregister = Callable[[int], None]


class EnrolmentRefused(PrivityError):  # noqa: N818
    """A request that is well-formed and not granted; `status` is the HTTP status that says so."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.status = status


@dataclass(frozen=True, slots=True)
class EnrolledDevice:
    """An enrolled device. Times in seconds since 1970; `gone_why`: revoked, left or None."""

    member: int
    enrolled_at: int
    gone_at: int | None
    gone_why: str | None
    unregistered: bool


@dataclass(frozen=True, slots=True)
class Invite:
    """An invite that was given out; nobody can tell which code it is."""

    made_at: int
    expires_at: int
    used_at: int | None


@dataclass(frozen=True, slots=True)
class Certified:
    """A member and its certificate."""

    member: int
    certificate: bytes


class KnownNodes:
    """Whose node keys are admitted, by the file at `path`, which must exist and is only read.

    All that the gateway needs of it.
    """

    def __init__(self, path: Path) -> None:
        self._reader = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None,
            check_same_thread=False,
        )  # fmt: skip
        self._reading = threading.Lock()

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def is_known(self, node_key: bytes) -> bool:
        """Whether the holder of this node key is enrolled and not gone. Reads what is on disk."""
        query = "SELECT 1 FROM devices WHERE node_key = ? AND gone_at IS NULL"
        with self._reading:
            return self._reader.execute(query, (node_key,)).fetchone() is not None


class Enrolment:
    """The file at `path`, created if needed; usable from several threads and processes at once.

    Args:
        clock: Seconds since 1970.

    Raises:
        InputError: The file is damaged; every method may say so.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.close(descriptor)
        with self._open() as db:
            db.execute("PRAGMA journal_mode=WAL")
            self._migrate(db)
        self._known = KnownNodes(path)

    def close(self) -> None:
        """Close the file."""
        self._known.close()

    def invite(self, hours: float = 24) -> str:
        """A new code, as a person gets it; only its digest is kept.

        Raises:
            InputError: `hours` is out of range.
        """
        if not 0 < hours <= MAX_HOURS:
            problem = f"An invite cannot last {hours:g} hours."
            raise InputError(problem, f"Choose more than 0 and at most {MAX_HOURS}.")
        code, now = new_code(), int(self._clock())
        with self._writing() as db:
            db.execute(
                "INSERT INTO invites (code_sha256, made_at, expires_at) VALUES (?, ?, ?)",
                (code_digest(code), now, now + round(hours * HOUR_S)),
            )
        return spell_code(code)

    def invites(self) -> list[Invite]:
        """All invites, oldest first."""
        query = "SELECT made_at, expires_at, used_at FROM invites ORDER BY made_at, rowid"
        with self._open() as db:
            return [Invite(*row) for row in db.execute(query)]

    def devices(self) -> list[EnrolledDevice]:
        """All devices ever enrolled, oldest first."""
        query = (
            "SELECT member, enrolled_at, gone_at, gone_why, unregistered FROM devices"
            " ORDER BY enrolled_at, rowid"
        )
        with self._open() as db:
            rows = db.execute(query).fetchall()
        return [EnrolledDevice(int(row[0]), row[1], row[2], row[3], bool(row[4])) for row in rows]

    def is_known(self, node_key: bytes) -> bool:
        """Whether this node key is enrolled, as `KnownNodes.is_known` says."""
        return self._known.is_known(node_key)

    def redeem(
        self, request: EnrolRequest, authority: Ed25519PrivateKey, register: Register
    ) -> Certified:
        """Enrol the sender of a request, or answer it again as it was answered before.

        Args:
            register: Registers a node key at Flower and returns the node's id in (0, 2^64); for a
                key that is registered already it returns that node's id.

        Raises:
            ProtocolError: The proof does not hold.
            EnrolmentRefused: 403 for a code that is unknown, expired or used by others, or a
                device that is gone; 409 for a key that is enrolled already.
        """
        request.verify()
        self._bind(request)
        with self._open() as db:
            noted = self._noted(db, request)
        return noted or self._note(request, authority, register(request.node_key))

    def leave(self, request: LeaveRequest, unregister: Unregister) -> None:
        """Let a device go by its own wish; the same request again changes nothing.

        Raises:
            EnrolmentRefused: 403 for an unknown member, a bad signature or a clock that is more
                than five minutes off.
        """
        self._require_own(request)
        self._let_go(request.member, "left", unregister)

    def renew(self, request: RenewRequest) -> None:
        """Let a device's enrolment go on for a year from now, if it ends within 90 days.

        Raises:
            EnrolmentRefused: As `leave`; or the device is gone, or its enrolment has ended.
        """
        self._require_own(request)
        member, now = str(request.member), int(self._clock())
        with self._writing() as db:
            query = "SELECT device_key FROM devices WHERE member = ? AND gone_at IS NULL"
            row = db.execute(query, (member,)).fetchone()
            if row is None:
                raise EnrolmentRefused(403, "This device was removed from the federation.", _AGAIN)
            query = "SELECT max(until) FROM log WHERE member = ?"
            until = db.execute(query, (member,)).fetchone()[0]
            if until < now:
                raise EnrolmentRefused(403, "The enrolment of this device has ended.", _AGAIN)
            if until < now + RENEWED_WITHIN_S:
                _log(db, EntryKind.RENEWED, member, row[0], now + LIFE_S)

    def log(self, authority: Ed25519PublicKey) -> EnrolmentLog:
        """The enrolment log, not signed."""
        with self._open() as db:
            return _log_in(db, authority)

    def restore_log(self, signed: EnrolmentLog) -> None:
        """Enter what a signed log has beyond this file's: it was restored from an older copy.

        Devices enrolled in between are in the log and have to join again; who left in between has.

        Raises:
            InputError: This file's log says something else than the signed one.
        """
        with self._writing() as db:  # from the look on, so that two processes enter nothing twice
            own = _log_in(db, signed.authority)
            if not (own.begins_with(signed) or signed.begins_with(own)):
                problem = f"The log in {self._path} is not the one that devices were shown."
                raise InputError(problem, "Restore a newer copy of it; devices take no other log.")
            for one in signed.entries()[own.size :]:
                _log(db, one.kind, str(one.member), one.key, one.until)
                if one.kind is EntryKind.GONE:
                    db.execute(
                        "UPDATE devices SET gone_at = ?, gone_why = 'left'"
                        " WHERE member = ? AND gone_at IS NULL",
                        (one.until, str(one.member)),
                    )

    def log_size(self) -> int:
        """How many entries the enrolment log has."""
        with self._open() as db:
            return int(db.execute("SELECT count(*) FROM log").fetchone()[0])

    def revoke(self, member: int, unregister: Unregister) -> None:
        """Shut a device out, for good: its keys are never enrolled again.

        Args:
            unregister: Removes a node at Flower; removing one that is gone is no error.

        Raises:
            InputError: There is no such member.
        """
        if not any(device.member == member for device in self.devices()):
            raise InputError(f"There is no member {member}.", "See `privity-server devices`.")
        self._let_go(member, "revoked", unregister)

    def settle(self, unregister: Unregister) -> list[int]:
        """Unregister at Flower whoever is gone and still registered there; who that was."""
        pending = [one.member for one in self.devices() if one.gone_at and not one.unregistered]
        for member in pending:
            self._unregister(member, unregister)
        return pending

    def _require_own(self, request: MemberRequest) -> None:
        if abs(request.at - self._clock()) > CLOCK_TOLERANCE_S:
            hint = "Set this device's clock and try again."
            raise EnrolmentRefused(403, "The request's time is not the server's.", hint)
        query = "SELECT device_key FROM devices WHERE member = ?"
        with self._open() as db:
            row = db.execute(query, (str(request.member),)).fetchone()
        try:
            if row is None:
                raise ProtocolError("")
            request.verify(row[0])
        except ProtocolError:  # the same words, so that nobody learns which members there are
            raise EnrolmentRefused(403, "No member here signed this request.") from None

    def _bind(self, request: EnrolRequest) -> None:
        keys = (request.device_key, request.node_key)
        digest, now = code_digest(request.code), int(self._clock())
        with self._writing() as db:
            found = db.execute(
                "SELECT expires_at, device_key, node_key FROM invites WHERE code_sha256 = ?",
                (digest,),
            ).fetchone()
            if found is None:
                raise EnrolmentRefused(403, "The invite code is not known here.", _ASK)
            if found[1:] == keys:
                return
            if found[1] is not None:
                raise EnrolmentRefused(403, "The invite code was used by another device.", _ASK)
            if now >= found[0]:
                raise EnrolmentRefused(403, "The invite code has expired.", _ASK)
            _require_new(db, keys)
            db.execute(
                "UPDATE invites SET used_at = ?, device_key = ?, node_key = ?"
                " WHERE code_sha256 = ?",
                (now, *keys, digest),
            )

    def _noted(self, db: sqlite3.Connection, request: EnrolRequest) -> Certified | None:
        row = db.execute(
            "SELECT member, certificate, gone_at FROM devices"
            " WHERE device_key = ? AND node_key = ?",
            (request.device_key, request.node_key),
        ).fetchone()
        if row is None:
            return None
        if row[2] is not None:
            raise EnrolmentRefused(403, "This device was removed from the federation.", _AGAIN)
        return Certified(int(row[0]), row[1])

    def _note(self, request: EnrolRequest, authority: Ed25519PrivateKey, member: int) -> Certified:
        if not 0 < member <= U64_MAX:
            raise PrivityError(f"Flower gave a node the id {member}, which is none.")
        device = Ed25519PublicKey.from_public_bytes(request.device_key)
        row = (str(member), request.device_key, request.node_key)
        with self._writing() as db:
            noted = self._noted(db, request)  # the same request may have been sent twice at once
            if noted:
                return noted
            _require_new(db, (request.device_key, request.node_key))
            certificate = certify(authority, member, device)
            now = int(self._clock())
            try:
                db.execute(
                    "INSERT INTO devices (member, device_key, node_key, certificate, enrolled_at)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (*row, certificate, now),
                )
                _log(db, EntryKind.ENROLLED, str(member), request.device_key, now + LIFE_S)
            except sqlite3.IntegrityError:
                problem = f"Flower gave two devices the id {member}."
                raise PrivityError(problem, "enrolment.db and superlink.db do not agree.") from None
        return Certified(member, certificate)

    def _let_go(self, member: int, why: str, unregister: Unregister) -> None:
        now = int(self._clock())
        with self._writing() as db:
            query = "SELECT device_key FROM devices WHERE member = ? AND gone_at IS NULL"
            if there := db.execute(query, (str(member),)).fetchone():
                _log(db, EntryKind.GONE, str(member), there[0], now)
            db.execute(
                "UPDATE devices SET gone_at = ?, gone_why = ? WHERE member = ? AND gone_at IS NULL",
                (now, why, str(member)),
            )
            row = db.execute("SELECT unregistered FROM devices WHERE member = ?", (str(member),))
            if row.fetchone()[0]:
                return
        self._unregister(member, unregister)

    def _unregister(self, member: int, unregister: Unregister) -> None:
        unregister(member)
        with self._writing() as db:
            db.execute("UPDATE devices SET unregistered = 1 WHERE member = ?", (str(member),))

    def _migrate(self, db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise PrivityError(f"{self._path} has version {version}; this software knows less.")
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            db.executescript(f"BEGIN; {script}; PRAGMA user_version={number}; COMMIT;")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self._path, isolation_level=None, timeout=30)
        try:
            db.execute("PRAGMA synchronous=FULL")
            yield db
        except sqlite3.OperationalError:  # in use, or no room
            raise
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self._path} is damaged: {error}.", "Restore a copy.") from None
        finally:
            db.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")


_ASK = "Ask the operator for a new one."
_AGAIN = "To come back, ask the operator for a new invite and join with new keys."


def _log_in(db: sqlite3.Connection, authority: Ed25519PublicKey) -> EnrolmentLog:
    log = EnrolmentLog(authority)
    query = "SELECT kind, member, device_key, until FROM log ORDER BY number"
    for kind, member, key, until in db.execute(query):
        log.append(LogEntry(EntryKind(kind), int(member), key, until))
    return log


def _log(db: sqlite3.Connection, kind: EntryKind, member: str, key: bytes, until: int) -> None:
    row = (kind, member, key, until)
    db.execute("INSERT INTO log (kind, member, device_key, until) VALUES (?, ?, ?, ?)", row)


def _require_new(db: sqlite3.Connection, keys: tuple[bytes, bytes]) -> None:
    query = (
        "SELECT 1 FROM devices WHERE device_key = ?1 OR node_key = ?2"
        " UNION SELECT 1 FROM log WHERE device_key = ?1"
    )
    if db.execute(query, keys).fetchone():
        raise EnrolmentRefused(409, "A key of this device is enrolled already.", _AGAIN)
