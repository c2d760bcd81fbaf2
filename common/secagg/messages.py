"""The ten messages of a round, byte by byte as in SPEC.md.

Each starts with version, kind and a digest: T of the terms until shares are opened, T1 of terms and
binding from the masked input on. Lists are counted, their entries have a fixed width and ascend
by member id, so each message has one encoding.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np

from common.errors import DecodeError
from common.secagg._hazmat.keys import KEY_BYTES, NONCE_BYTES, TAG_BYTES
from common.secagg._hazmat.shamir import SHARE_BYTES
from common.secagg.identity import CERTIFICATE_BYTES
from common.secagg.wire import Reader, require_ascending, u8, u32, u64

VERSION = 2
SIGNATURE_BYTES = 64
COMMITMENT_BYTES = 32
SEALED_BYTES = NONCE_BYTES + 2 * SHARE_BYTES + TAG_BYTES
_ADVERT_BYTES = 2 * KEY_BYTES + CERTIFICATE_BYTES + SIGNATURE_BYTES
_REVEAL_BYTES = 1 + SHARE_BYTES


class MessageKind(IntEnum):
    """Second byte of a message."""

    ADVERT = 1
    ROSTER = 2
    SHARES = 3
    INBOX = 4
    MASKED = 5
    SURVIVORS = 6
    CONFIRMATION = 7
    CONFIRMATIONS = 8
    REVEAL = 9
    OPENED = 10  # comes after the inbox


class SecretKind(IntEnum):
    """Which of a member's two secrets a revealed share belongs to."""

    SELF_MASK = 0
    MASK_KEY = 1


@dataclass(frozen=True, slots=True)
class Advert:
    """A member's public keys for the round, signed by its device."""

    mask_public: bytes
    share_public: bytes
    certificate: bytes
    signature: bytes

    def encode(self) -> bytes:
        """233 bytes."""
        return self.mask_public + self.share_public + self.certificate + self.signature

    @classmethod
    def decode(cls, data: bytes) -> "Advert":
        """Read what `encode` wrote."""
        reader = Reader(data, "Advert")
        keys = reader.take(KEY_BYTES), reader.take(KEY_BYTES)
        advert = cls(*keys, reader.take(CERTIFICATE_BYTES), reader.take(SIGNATURE_BYTES))
        reader.end()
        return advert


@dataclass(frozen=True, slots=True)
class Shares:
    """A member's encrypted shares by receiver, and the hash that commits to its self-mask seed."""

    commitment: bytes
    sealed: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class Inbox:
    """Everyone who shared, and what those among them who chose the receiver sealed for it."""

    sharers: tuple[int, ...]
    sealed: dict[int, bytes]


def encode_advert(terms: bytes, member: int, advert: Advert) -> bytes:
    """Member to server: its keys. `terms` is T and `bound` is T1, here and below."""
    return _header(MessageKind.ADVERT, terms) + u64(member) + advert.encode()


def decode_advert(terms: bytes, member: int, data: bytes) -> Advert:
    """Read the advert that `member` sent.

    Raises:
        DecodeError: Not exactly one such message; so for every decoder here.
    """
    reader = _open_from(member, MessageKind.ADVERT, terms, data)
    return Advert.decode(reader.rest())


def encode_roster(terms: bytes, adverts: Mapping[int, Advert]) -> bytes:
    """Server to members: all adverts."""
    table = {member: advert.encode() for member, advert in adverts.items()}
    return _header(MessageKind.ROSTER, terms) + _table(table)


def decode_roster(terms: bytes, data: bytes) -> dict[int, Advert]:
    """Adverts by member, ascending."""
    table = _only_table(_open(MessageKind.ROSTER, terms, data), _ADVERT_BYTES)
    return {member: Advert.decode(advert) for member, advert in table.items()}


def encode_shares(terms: bytes, member: int, shares: Shares) -> bytes:
    """Member to server: encrypted shares for the holders it chose."""
    head = _header(MessageKind.SHARES, terms) + u64(member)
    return head + shares.commitment + _table(shares.sealed)


def decode_shares(terms: bytes, member: int, data: bytes) -> Shares:
    """The shares that `member` sent."""
    reader = _open_from(member, MessageKind.SHARES, terms, data)
    commitment = reader.take(COMMITMENT_BYTES)
    return Shares(commitment, _only_table(reader, SEALED_BYTES))


def encode_inbox(terms: bytes, inbox: Inbox) -> bytes:
    """Server to a member: who shared, and what was sealed for it."""
    return _inbox_head(terms, inbox.sharers) + _table(inbox.sealed)


def encode_inboxes(
    terms: bytes, sharers: Iterable[int], sealed: Mapping[int, Mapping[int, bytes]]
) -> dict[int, bytes]:
    """`encode_inbox` for every receiver in `sealed`; the list of sharers is encoded once."""
    head = _inbox_head(terms, sharers)
    return {receiver: head + _table(entries) for receiver, entries in sealed.items()}


def _inbox_head(terms: bytes, sharers: Iterable[int]) -> bytes:
    """What an inbox begins with, the same for every receiver."""
    return _header(MessageKind.INBOX, terms) + encode_members(sharers)


def decode_inbox(terms: bytes, data: bytes) -> Inbox:
    """The inbox."""
    reader = _open(MessageKind.INBOX, terms, data)
    sharers = _read_members(reader)
    return Inbox(sharers, _only_table(reader, SEALED_BYTES))


def encode_opened(terms: bytes, member: int, unopened: Iterable[int]) -> bytes:
    """Member to server: whose sealed shares in its inbox it could not open."""
    return _header(MessageKind.OPENED, terms) + u64(member) + encode_members(unopened)


def decode_opened(terms: bytes, member: int, data: bytes) -> frozenset[int]:
    """Whose shares `member` could not open."""
    reader = _open_from(member, MessageKind.OPENED, terms, data)
    unopened = _read_members(reader)
    reader.end()
    return frozenset(unopened)


def masked_header(bound: bytes, member: int) -> bytes:
    """Member to server: its masked vector, packed to b bits, follows these bytes."""
    return _header(MessageKind.MASKED, bound) + u64(member)


def decode_masked(bound: bytes, member: int, data: bytes) -> memoryview:
    """The packed vector that `member` sent, not copied; `add_packed` checks its length."""
    return _open_from(member, MessageKind.MASKED, bound, data).rest_view()


def encode_survivors(bound: bytes, survivors: Iterable[int]) -> bytes:
    """Server to survivors: whose vectors are in the sum."""
    return _header(MessageKind.SURVIVORS, bound) + encode_members(survivors)


def decode_survivors(bound: bytes, data: bytes) -> tuple[int, ...]:
    """The survivors, ascending."""
    reader = _open(MessageKind.SURVIVORS, bound, data)
    survivors = _read_members(reader)
    reader.end()
    return survivors


def encode_confirmation(bound: bytes, member: int, signature: bytes) -> bytes:
    """Member to server: its signature over the transcript."""
    return _header(MessageKind.CONFIRMATION, bound) + u64(member) + signature


def decode_confirmation(bound: bytes, member: int, data: bytes) -> bytes:
    """The signature that `member` sent."""
    reader = _open_from(member, MessageKind.CONFIRMATION, bound, data)
    signature = reader.take(SIGNATURE_BYTES)
    reader.end()
    return signature


def encode_confirmations(bound: bytes, signatures: Mapping[int, bytes]) -> bytes:
    """Server to those who confirmed: all signatures."""
    return _header(MessageKind.CONFIRMATIONS, bound) + _table(signatures)


def decode_confirmations(bound: bytes, data: bytes) -> dict[int, bytes]:
    """Signatures by member, ascending."""
    return _only_table(_open(MessageKind.CONFIRMATIONS, bound, data), SIGNATURE_BYTES)


def encode_reveal(
    bound: bytes, member: int, shares: Mapping[int, tuple[SecretKind, bytes]]
) -> bytes:
    """Member to server: one share for each sharer that chose it as a holder."""
    table = {peer: u8(secret) + share for peer, (secret, share) in shares.items()}
    return _header(MessageKind.REVEAL, bound) + u64(member) + _table(table)


def decode_reveal(bound: bytes, member: int, data: bytes) -> dict[int, tuple[SecretKind, bytes]]:
    """Which share `member` revealed of each sharer that chose it."""
    reader = _open_from(member, MessageKind.REVEAL, bound, data)
    table = _only_table(reader, _REVEAL_BYTES)
    return {peer: (_secret(entry[0]), entry[1:]) for peer, entry in table.items()}


def _secret(value: int) -> SecretKind:
    if value not in (SecretKind.SELF_MASK, SecretKind.MASK_KEY):
        raise DecodeError(f"Reveal: secret {value} is neither 0 nor 1.")
    return SecretKind(value)


def encode_members(members: Iterable[int]) -> bytes:
    """Count and ids, ascending."""
    ordered = sorted(members)
    return u32(len(ordered)) + np.array(ordered, dtype=">u8").tobytes()


def decode_members(data: bytes) -> tuple[int, ...]:
    """Read what `encode_members` wrote."""
    reader = Reader(data, "Members")
    members = _read_members(reader)
    reader.end()
    return members


def _header(kind: MessageKind, digest: bytes) -> bytes:
    return u8(VERSION) + u8(kind) + digest


def _open(kind: MessageKind, digest: bytes, data: bytes) -> Reader:
    reader = Reader(data, kind.name.capitalize())
    reader.expect(u8(VERSION), "version")
    reader.expect(u8(kind), "kind")
    bound = MessageKind.MASKED <= kind <= MessageKind.REVEAL
    reader.expect(digest, "digest of terms and binding" if bound else "terms digest")
    return reader


def _open_from(member: int, kind: MessageKind, digest: bytes, data: bytes) -> Reader:
    reader = _open(kind, digest, data)
    reader.expect(u64(member), "sender")
    return reader


def _read_members(reader: Reader) -> tuple[int, ...]:
    return _decode_ids(reader.take(8 * reader.u32()))


@lru_cache(maxsize=8)  # every member of a large cohort is sent the same lists
def _decode_ids(raw: bytes) -> tuple[int, ...]:
    members = tuple(np.frombuffer(raw, dtype=">u8").tolist())
    require_ascending(members, "Members")
    return members


def _table(entries: Mapping[int, bytes]) -> bytes:
    rows = [u64(member) + entries[member] for member in sorted(entries)]
    return u32(len(rows)) + b"".join(rows)


def _only_table(reader: Reader, width: int) -> dict[int, bytes]:
    """A table that ends the message."""
    rows = [(reader.u64(), reader.take(width)) for _ in range(reader.u32())]
    reader.end()
    require_ascending((member for member, _ in rows), "Table")
    return dict(rows)
