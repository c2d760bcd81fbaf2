"""Messages decode strictly: whatever is not exactly one message is refused."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from secagg_attack import Round
from secagg_round import (
    ADVERT_TABLE_ROW,
    BINDING,
    FIVE,
    FIVE_MEMBERS,
    HEADER_BYTES,
    aggregator,
    collect,
    drive,
    participants,
    step,
)

from common.errors import DecodeError
from common.secagg import messages
from common.secagg.terms import bound_digest

TERMS = FIVE.digest()
BOUND = bound_digest(TERMS, BINDING)
FIRST = FIVE_MEMBERS[0]


def all_messages() -> list[bytes]:
    """One of each of the nine kinds, in the order of the round."""
    people, server = participants(FIVE, FIVE_MEMBERS), aggregator(FIVE)
    inbound, found = dict.fromkeys(FIVE_MEMBERS, b""), []
    for leg in range(5):
        answers = {m: step(FIVE, leg, people[m], m, inbound[m]) for m in inbound}
        found.append(answers[FIRST])
        if leg < 4:
            inbound = collect(server, leg, answers)
            found.append(inbound[FIRST])
    return found


MESSAGES = all_messages()
DECODERS = [
    lambda terms, data: messages.decode_advert(terms, FIRST, data),
    messages.decode_roster,
    lambda terms, data: messages.decode_shares(terms, FIRST, data),
    messages.decode_inbox,
    lambda terms, data: messages.decode_masked(terms, FIRST, data),
    messages.decode_survivors,
    lambda terms, data: messages.decode_confirmation(terms, FIRST, data),
    messages.decode_confirmations,
    lambda terms, data: messages.decode_reveal(terms, FIRST, data),
]
KINDS = range(9)
DIGESTS = [TERMS] * 4 + [BOUND] * 5


def test_sizes_are_those_of_the_specification() -> None:
    sizes = [len(message) for message in MESSAGES]
    head, five, four = 34, 5, 4
    assert sizes == [
        head + 8 + 233,
        head + 4 + five * 241,
        head + 8 + 32 + 4 + four * 168,
        head + 4 + five * 8 + 4 + four * 168,
        head + 8 + FIVE.dimension * 2,
        head + 4 + five * 8,
        head + 8 + 64,
        head + 4 + five * 72,
        head + 8 + 4 + four * 75,
    ]
    assert [message[:2] for message in MESSAGES] == [bytes([2, kind + 1]) for kind in KINDS]


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_header_is_refused(kind: int) -> None:
    message, decode, digest = MESSAGES[kind], DECODERS[kind], DIGESTS[kind]
    decode(digest, message)
    for at in (0, 1, 2, HEADER_BYTES - 1):
        altered = message[:at] + bytes([message[at] ^ 8]) + message[at + 1 :]
        with pytest.raises(DecodeError):
            decode(digest, altered)
    for other in KINDS:
        if other != kind:
            with pytest.raises(DecodeError):
                decode(DIGESTS[other], MESSAGES[other])
    with pytest.raises(DecodeError):
        decode(BOUND if digest is TERMS else TERMS, message)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != 4])
def test_every_other_length_is_refused(kind: int) -> None:
    message, decode = MESSAGES[kind], DECODERS[kind]
    for wrong in [message[:length] for length in range(len(message))] + [message + b"\0"]:
        with pytest.raises(DecodeError):
            decode(DIGESTS[kind], wrong)


@pytest.mark.parametrize("kind", [0, 2, 4, 6, 8])
def test_another_sender_is_refused(kind: int) -> None:
    message, digest = MESSAGES[kind], DIGESTS[kind]
    other = message[:HEADER_BYTES] + bytes(8) + message[HEADER_BYTES + 8 :]
    with pytest.raises(DecodeError, match="sender"):
        DECODERS[kind](digest, other)


def roster_of(rows: list[bytes]) -> bytes:
    return MESSAGES[1][:HEADER_BYTES] + len(rows).to_bytes(4, "big") + b"".join(rows)


def test_unordered_and_duplicate_ids_are_refused() -> None:
    table = MESSAGES[1][HEADER_BYTES + 4 :]
    rows = [table[at : at + ADVERT_TABLE_ROW] for at in range(0, len(table), ADVERT_TABLE_ROW)]
    assert roster_of(rows) == MESSAGES[1]
    for wrong in (rows[::-1], [rows[0], *rows], [rows[1], rows[0], *rows[2:]]):
        with pytest.raises(DecodeError, match="follows"):
            messages.decode_roster(TERMS, roster_of(wrong))


def test_unknown_secret_is_refused() -> None:
    reveal = bytearray(MESSAGES[8])
    reveal[HEADER_BYTES + 8 + 4 + 8] = 2
    with pytest.raises(DecodeError, match="neither 0 nor 1"):
        messages.decode_reveal(BOUND, FIRST, bytes(reveal))


@settings(max_examples=200)
@given(st.sampled_from(KINDS), st.data())
def test_arbitrary_bodies_raise_nothing_else(kind: int, data) -> None:
    body = data.draw(st.binary(max_size=400))
    head = MESSAGES[kind][: HEADER_BYTES + data.draw(st.integers(0, 30))]
    with contextlib.suppress(DecodeError):
        DECODERS[kind](DIGESTS[kind], head + body)


@pytest.mark.parametrize("leg", range(5))
@pytest.mark.parametrize("how", ["empty", "truncated", "trailing", "doubled", "flipped", "kind"])
def test_a_malformed_message_is_a_dropout(leg: int, how: str) -> None:
    def damage(message: bytes) -> bytes:
        return {
            "empty": b"",
            "truncated": message[:-1],
            "trailing": message + b"\0",
            "doubled": message * 2,
            "flipped": message[:40] + bytes([message[40] ^ 1]) + message[41:],
            "kind": message[:1] + b"\x09\x01"[leg == 4 :][:1] + message[2:],
        }[how]

    victim = FIVE_MEMBERS[2]
    outcome = drive(
        FIVE, FIVE_MEMBERS, {}, tamper=lambda at, m, data: damage(data) if (at, m) == (leg, victim)
        else data
    )  # fmt: skip
    plain = drive(FIVE, FIVE_MEMBERS, {victim: leg})
    assert list(outcome.refused) == [victim]
    assert outcome.total is not None
    assert outcome.total.tolist() == plain.total.tolist()


def rows_of(leg: int) -> tuple[int, int]:
    """Where the rows of the first list of the server's message begin, and how wide they are."""
    return HEADER_BYTES + 4, {1: ADVERT_TABLE_ROW, 2: 8, 3: 8, 4: 72}[leg]


def damaged(leg: int, message: bytes, how: str) -> bytes:
    """A server's message with something wrong in its form alone."""
    at, width = rows_of(leg)
    one, two = message[at : at + width], message[at + width : at + 2 * width]
    rest = message[at + 2 * width :]
    more = int.from_bytes(message[at - 4 : at], "big") + 1
    return {
        "empty": b"",
        "truncated": message[:-1],
        "trailing": message + b"\0",
        "doubled": message * 2,
        "digest": message[:5] + bytes([message[5] ^ 1]) + message[6:],
        "reordered": message[:at] + two + one + rest,
        "duplicated": message[: at - 4] + more.to_bytes(4, "big") + one + message[at:],
        "replaced": message[:at] + one + one + rest,
        "oversized": message[: at - 4] + b"\xff" * 4 + message[at:],
    }[how]


DAMAGE = ("empty", "truncated", "trailing", "doubled", "digest")
DISORDER = ("reordered", "duplicated", "replaced", "oversized")


@pytest.mark.parametrize("leg", range(1, 5))
@pytest.mark.parametrize("how", DAMAGE + DISORDER)
def test_a_malformed_server_message_kills_the_participant(leg: int, how: str) -> None:
    run = Round(leg)
    run.refuses(leg, FIRST, damaged(leg, run.inbound[FIRST], how), None, DecodeError)


@pytest.mark.parametrize("how", ["reordered", "replaced"])
def test_disorder_among_sealed_shares_kills_the_participant(how: str) -> None:
    run = Round(2)
    head = run.inbound[FIRST][: HEADER_BYTES + 4 + 5 * 8 + 4]
    table = run.inbound[FIRST][len(head) :]
    rows = [table[at : at + 168] for at in range(0, len(table), 168)]
    assert len(rows) == 4
    wrong = rows[::-1] if how == "reordered" else [rows[0], rows[0], *rows[2:]]
    run.refuses(2, FIRST, head + b"".join(wrong), "must ascend", DecodeError)
