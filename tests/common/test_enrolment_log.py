"""The enrolment log: it grows, and nothing else can be done to it unseen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.enrolment.log import CLOCKS_S, DAY_S, EnrolmentLog, EntryKind, LogEntry, opened
from common.errors import DecodeError, ProtocolError

AUTHORITY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
PUBLIC = AUTHORITY.public_key()
END = 1_900_000_000


def key(member: int) -> bytes:
    seed = hashlib.sha256(str(member).encode()).digest()
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def enrolled(*members: int) -> list[LogEntry]:
    return [LogEntry(EntryKind.ENROLLED, one, key(one), END) for one in members]


def signed(entries: Sequence[LogEntry], by: Ed25519PrivateKey = AUTHORITY) -> EnrolmentLog:
    log = EnrolmentLog(by.public_key())
    for entry in entries:
        log.append(entry)
    log.sign(by)
    return log


def test_a_device_goes_on_from_what_it_knows() -> None:
    """Entries alone travel, 49 bytes each; the head it comes to is the authority's."""
    whole = signed(enrolled(1, 2, 3))
    known = opened(PUBLIC, signed(enrolled(1, 2)).part())
    for since in (0, 1, 2):
        mine = opened(PUBLIC, known.part())
        mine.extend(whole.part(since))
        assert (mine.size, mine.head, mine.enrolled()) == (3, whole.head, 3)
        assert mine.part() == whole.part()
    assert len(whole.part(2)) - len(whole.part(3)) == 49


def test_the_hash_chain_is_the_specified_one() -> None:
    entry = b"\x01" + (7).to_bytes(8, "big") + key(7) + END.to_bytes(8, "big")
    start = hashlib.sha256(b"privity/log/v1\x00" + PUBLIC.public_bytes_raw()).digest()
    head = hashlib.sha256(b"privity/log/v1/entry\x00" + start + entry).digest()
    log = signed(enrolled(7))
    assert (log.head, EnrolmentLog(PUBLIC).head) == (head, start)
    PUBLIC.verify(log.signature, b"privity/log/v1/head\x00" + (1).to_bytes(8, "big") + head)


@pytest.mark.parametrize(
    ("entries", "since", "words"),
    [
        (enrolled(1, 2), 0, "shrank"),
        (enrolled(1, 2, 4), 0, "rewritten"),
        (enrolled(2, 1, 3, 4), 0, "rewritten"),
        (enrolled(9, 1, 2, 3, 4), 1, "rewritten"),
        (enrolled(1, 2, 3, 4, 5), 4, "gap"),
    ],
)
def test_another_history_is_refused(entries: list[LogEntry], since: int, words: str) -> None:
    known = signed(enrolled(1, 2, 3))
    with pytest.raises(ProtocolError, match=words):
        known.extend(signed(entries).part(since))


def test_a_fork_behind_the_known_part_does_not_verify() -> None:
    """The signature is over all entries: those that travel cannot be put after others."""
    fork = signed(enrolled(8, 9, 3, 4))
    with pytest.raises(ProtocolError, match="signature"):
        signed(enrolled(1, 2, 3)).extend(fork.part(3))


def test_only_the_authority_can_extend_it() -> None:
    for made in (signed(enrolled(1), OTHER).part(), signed(enrolled(1)).part()[:-1] + b"\x00"):
        with pytest.raises(ProtocolError):
            opened(PUBLIC, made)


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda part: b"\x02" + part[1:],
        lambda part: part + b"\x00",
        lambda part: part[:-1],
        lambda part: part[:13] + b"\x04" + part[14:],
    ],
)
def test_malformed_parts_are_refused(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(DecodeError):
        EnrolmentLog(PUBLIC).extend(change(signed(enrolled(1)).part()))


ONE = enrolled(1)[0]
GONE = replace(ONE, kind=EntryKind.GONE)
LATER = replace(ONE, kind=EntryKind.RENEWED, until=END + 1)


@pytest.mark.parametrize(
    "entries",
    [
        [ONE, ONE],
        [ONE, replace(ONE, member=2)],  # a key is enrolled once
        [ONE, replace(ONE, key=key(2))],  # and so is a member
        [ONE, GONE, ONE],
        [ONE, GONE, replace(ONE, member=2)],
        [ONE, GONE, GONE],
        [ONE, GONE, LATER],
        [GONE],
        [LATER],
        [ONE, replace(GONE, key=key(2))],
        [ONE, replace(LATER, until=END)],
        [replace(ONE, key=bytes(32))],  # of small order
    ],
)
def test_what_contradicts_the_log_is_not_in_it(entries: list[LogEntry]) -> None:
    with pytest.raises(ProtocolError):
        signed(entries)


def test_who_may_be_in_a_roster() -> None:
    log = signed([*enrolled(1, 2), replace(GONE, member=2, key=key(2)), LATER])
    log.require(1, key(1), END + CLOCKS_S)
    for member, shown, now, words in (
        (1, key(2), END, "not in"),
        (3, key(3), END, "not in"),
        (2, key(2), END, "left or was revoked"),
        (1, key(1), END + CLOCKS_S + 2, "expired"),
    ):
        with pytest.raises(ProtocolError, match=words):
            log.require(member, shown, now)
    assert DAY_S == CLOCKS_S and log.enrolled() == 1
