"""The enrolment log: everybody who was ever enrolled, in an order that nobody can change later.

The enrolment authority can make up devices, and no device can tell one from a person's. What it
can tell is how many there are and since when: every member of a round must be in a log that only
grows, and of which the members of one roster know the same, since its size and hash are in the
terms that they sign. A device that is kept among invented ones from its first round on can be shown
a log of its own; only comparing its head by another way shows that.

The hash of entry i covers all before it (a hash chain, as in Haber and Stornetta 1991); devices
fetch all entries, so that no Merkle proofs are needed. The authority signs size and hash together.

    entry = u8 kind ‖ u64 member ‖ device key (32) ‖ u64 until              49 bytes
    h_0 = SHA-256("privity/log/v1\\0" ‖ authority key)
    h_i = SHA-256("privity/log/v1/entry\\0" ‖ h_(i-1) ‖ entry_i)
    part = u8 version ‖ u64 since ‖ u32 count ‖ entries ‖ signature (64)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import IntEnum

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.errors import DecodeError, ProtocolError
from common.secagg.identity import device_key, verify
from common.secagg.wire import Reader, u8, u32, u64

VERSION = 1
KEY_BYTES, SIGNATURE_BYTES, ENTRY_BYTES = 32, 64, 49
DAY_S = 86_400
LIFE_S = 365 * DAY_S
RENEWED_WITHIN_S = 90 * DAY_S  # before the end, so that a device that is off for a while returns
CLOCKS_S = DAY_S  # by which a device's clock may be ahead of the operator's
_START = b"privity/log/v1\x00"
_ENTRY = b"privity/log/v1/entry\x00"
_HEAD = b"privity/log/v1/head\x00"


class EntryKind(IntEnum):
    """What an entry says of a member."""

    ENROLLED = 1
    RENEWED = 2
    GONE = 3


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of the log.

    Args:
        key: The device's Ed25519 key, 32 bytes.
        until: Seconds since 1970: when the enrolment ends; for GONE, when it ended.
    """

    kind: EntryKind
    member: int
    key: bytes
    until: int

    def encode(self) -> bytes:
        """49 bytes."""
        return u8(self.kind) + u64(self.member) + self.key + u64(self.until)

    @classmethod
    def read(cls, reader: Reader) -> LogEntry:
        """The next entry.

        Raises:
            DecodeError: Of no known kind.
        """
        kind = reader.u8()
        if kind not in tuple(EntryKind):
            raise DecodeError(f"Enrolment log: an entry of kind {kind} is not known.")
        return cls(EntryKind(kind), reader.u64(), reader.take(KEY_BYTES), reader.u64())


@dataclass(frozen=True, slots=True)
class Standing:
    """What the log says of a member now."""

    key: bytes
    until: int
    gone: bool = False

    def lasts(self, at: float) -> bool:
        """Whether it is enrolled, and at this time still will be if it does not leave."""
        return not self.gone and self.until > at


@dataclass(slots=True)
class EnrolmentLog:
    """A log from its first entry on. It can be appended to and nothing else.

    Args:
        authority: The enrolment authority's key, under which the log began.

    Attributes:
        head: Hash of all entries, 32 bytes.
        members: Everybody who was ever in it.
        signature: The authority's, over size and hash; empty before there is one.
    """

    authority: Ed25519PublicKey
    head: bytes = field(init=False)
    members: dict[int, Standing] = field(init=False, default_factory=dict)
    signature: bytes = b""
    _entries: list[bytes] = field(init=False, default_factory=list)
    _keys: set[bytes] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.head = hashlib.sha256(_START + self.authority.public_bytes_raw()).digest()

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self._entries)

    def enrolled(self) -> int:
        """How many devices are enrolled and not gone."""
        return sum(not one.gone for one in self.members.values())

    def entries(self) -> list[LogEntry]:
        """All entries, oldest first."""
        return [LogEntry.read(Reader(raw, "Enrolment log")) for raw in self._entries]

    def begins_with(self, other: EnrolmentLog) -> bool:
        """Whether all entries of another log are the first of this one."""
        return self._entries[: other.size] == other._entries

    def append(self, entry: LogEntry) -> None:
        """Add an entry; the signature over the head is void with it.

        Raises:
            ProtocolError: It contradicts what the log says: a member or key enrolled before, or
                news of a member that is not enrolled, or gone, under another key, or shortened.
        """
        self._require_possible(entry)
        gone = entry.kind is EntryKind.GONE
        self.members[entry.member] = Standing(entry.key, entry.until, gone)
        self._keys.add(entry.key)
        raw = entry.encode()
        self._entries.append(raw)
        self.head = hashlib.sha256(_ENTRY + self.head + raw).digest()
        self.signature = b""

    def sign(self, authority: Ed25519PrivateKey) -> None:
        """Vouch for the log as it is now."""
        self.signature = authority.sign(self._statement())

    def part(self, since: int = 0) -> bytes:
        """The entries after the first `since`, with the signature over the whole."""
        entries = self._entries[since:]
        head = u8(VERSION) + u64(since) + u32(len(entries))
        return head + b"".join(entries) + self.signature

    def extend(self, part: bytes) -> None:
        """Take over what a part has beyond this log. On an error, throw this log away.

        Raises:
            DecodeError: Not one well-formed part.
            ProtocolError: It leaves a gap, is shorter than what is known, says something else
                of what is known, contradicts itself, or is not signed by the authority.
        """
        since, entries, signature = _read(part)
        if since > self.size:
            raise ProtocolError(f"The enrolment log has a gap from {self.size} to {since}.")
        if since + len(entries) < self.size:
            raise ProtocolError(f"The enrolment log shrank to {since + len(entries)} entries.")
        known = self.size - since
        if self._entries[since:] != [one.encode() for one in entries[:known]]:
            raise ProtocolError("The enrolment log was rewritten: entries are not what they were.")
        for entry in entries[known:]:
            self.append(entry)
        verify(self.authority, signature, self._statement(), "Enrolment log")
        self.signature = signature

    def require(self, member: int, key: bytes, now: float) -> None:
        """Check that a member is enrolled with this key, not gone, and not expired.

        Raises:
            ProtocolError: It is not.
        """
        standing = self.members.get(member)
        if standing is None or standing.key != key:
            raise ProtocolError(f"Member {member} is not in the enrolment log with its key.")
        if standing.gone:
            raise ProtocolError(f"Member {member} has left or was revoked.")
        if standing.until + CLOCKS_S < now:
            raise ProtocolError(f"The certificate of member {member} has expired.")

    def _require_possible(self, entry: LogEntry) -> None:
        standing = self.members.get(entry.member)
        if entry.kind is EntryKind.ENROLLED:
            device_key(entry.key)
            if standing is not None or entry.key in self._keys:
                raise ProtocolError(f"Member {entry.member} or its key is in the log already.")
            return
        if standing is None or standing.gone or standing.key != entry.key:
            raise ProtocolError(f"Member {entry.member} is not enrolled with this key.")
        if entry.kind is EntryKind.RENEWED and entry.until <= standing.until:
            raise ProtocolError(f"The renewal of member {entry.member} does not extend anything.")

    def _statement(self) -> bytes:
        return _HEAD + u64(self.size) + self.head


def opened(authority: Ed25519PublicKey, part: bytes) -> EnrolmentLog:
    """The log whose whole content `part` is; an empty log for no bytes.

    Raises:
        DecodeError, ProtocolError: As `EnrolmentLog.extend`.
    """
    log = EnrolmentLog(authority)
    if part:
        log.extend(part)
    return log


def _read(part: bytes) -> tuple[int, list[LogEntry], bytes]:
    reader = Reader(part, "Enrolment log")
    reader.expect(u8(VERSION), "version")
    since = reader.u64()
    entries = [LogEntry.read(reader) for _ in range(reader.u32())]
    signature = reader.take(SIGNATURE_BYTES)
    reader.end()
    return since, entries, signature
