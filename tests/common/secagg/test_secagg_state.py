"""Stored and loaded between all legs, a member sends the very same bytes."""

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from secagg_round import (
    AUTHORITY,
    FIVE,
    FIVE_MEMBERS,
    aggregator,
    certificate,
    collect,
    device,
    drive,
    participant,
    participants,
    reload,
    step,
)

from common.errors import DecodeError, ProtocolError
from common.secagg import Participant
from common.secagg.state import decode_state, encode_state

A, B, C, D, E = FIVE_MEMBERS


def saved_states(drops: dict[int, int]) -> list[bytes]:
    """What member A would store before each leg and after the last."""
    people, server = participants(FIVE, FIVE_MEMBERS), aggregator(FIVE)
    inbound, saved = dict.fromkeys(FIVE_MEMBERS, b""), []
    for leg in range(5):
        saved.append(people[A].save())
        answers = {m: step(FIVE, leg, people[m], m, inbound[m]) for m in inbound}
        arrived = {m: a for m, a in answers.items() if drops.get(m, 9) > leg}
        if leg < 4:
            inbound = collect(server, leg, arrived)
    return [*saved, people[A].save()]


STATES = saved_states({E: 2})


@pytest.mark.parametrize("drops", [{}, {E: 1}, {B: 2}, {C: 4}])
def test_saving_between_legs_changes_no_byte(drops: dict[int, int]) -> None:
    plain = drive(FIVE, FIVE_MEMBERS, drops)
    stored = drive(FIVE, FIVE_MEMBERS, drops, between=reload)
    assert stored.sent == plain.sent
    assert stored.total.tolist() == plain.total.tolist()


def test_same_randomness_same_bytes_other_randomness_other_bytes() -> None:
    assert drive(FIVE, FIVE_MEMBERS, {}).sent == drive(FIVE, FIVE_MEMBERS, {}).sent
    default = Participant(FIVE, A, device(A), certificate(A), AUTHORITY.public_key())
    again = Participant(FIVE, A, device(A), certificate(A), AUTHORITY.public_key())
    assert default.advertise() != again.advertise()


def test_shares_are_encrypted_afresh_even_after_a_rollback() -> None:
    people, server = participants(FIVE, FIVE_MEMBERS), aggregator(FIVE)
    inbound = server.roster({m: who.advertise() for m, who in people.items()})
    random = iter([b"\1", b"\2"] * 9)
    one, two = (
        reload(people[A], lambda n, fill=fill: fill * n).share(inbound[A])
        for fill in (next(random), next(random))
    )
    row = len(one) - 168 + 8  # the last entry: member, nonce, ciphertext
    assert one[row : row + 12] != two[row : row + 12]


@pytest.mark.parametrize("stage", range(6))
def test_stored_state_decodes_strictly(stage: int) -> None:
    def load(data: bytes) -> Participant:
        return Participant.load(data, device(A), certificate(A), AUTHORITY.public_key())

    good = STATES[stage]
    assert load(good).save() == good
    lengths = [*range(0, len(good), 37), len(good) - 1]
    for wrong in [good[:n] for n in lengths] + [good + b"\0", b"\1" + good[1:], good[:1] + b"\1"]:
        with pytest.raises(DecodeError):
            load(wrong)


@pytest.mark.parametrize("claimed", range(8))
def test_stage_must_fit_the_content(claimed: int) -> None:
    at = 2 + 8 + len(FIVE.encode()) + 8
    for stage, good in enumerate(STATES):
        assert good[at] == stage
        if claimed == stage or {claimed, stage} in ({0, 1}, {5, 6}):
            continue
        with pytest.raises(DecodeError):
            Participant.load(
                good[:at] + bytes([claimed]) + good[at + 1 :],
                device(A),
                certificate(A),
                AUTHORITY.public_key(),
            )


@pytest.mark.parametrize(
    ("name", "since"),
    [("roster", 2), ("holders", 2), ("inbox", 3), ("binding", 3), ("survivors", 4)],
)
def test_what_a_stage_needs_is_there_and_nothing_later(name: str, since: int) -> None:
    for stage in range(5):
        terms, member, state = decode_state(STATES[stage])
        setattr(state, name, b"" if stage >= since else bytes(32))
        with pytest.raises(DecodeError, match=f"{name} does not fit"):
            decode_state(encode_state(terms, member, state))


@pytest.mark.parametrize("wrong", [A, 12])
def test_stored_holders_must_be_others_of_the_roster(wrong: int) -> None:
    good, holders = STATES[2], b"".join(m.to_bytes(8, "big") for m in (B, C, D, E))
    assert good.count(holders) == 1
    for place in range(4):
        chosen = sorted([wrong, *(m for m in (B, C, D, E) if m != (B, C, D, E)[place])])
        other = b"".join(m.to_bytes(8, "big") for m in chosen)
        with pytest.raises(ProtocolError, match="4 others of the roster"):
            Participant.load(
                good.replace(holders, other), device(A), certificate(A), AUTHORITY.public_key()
            )


def test_state_of_another_member_is_refused() -> None:
    for key, paper in ((B, B), (B, A), (A, B)):
        with pytest.raises(ProtocolError):
            Participant.load(STATES[2], device(key), certificate(paper), AUTHORITY.public_key())


@given(st.data())
def test_altered_state_raises_only_protocol_errors(data) -> None:
    good = bytearray(data.draw(st.sampled_from(STATES)))
    good[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ProtocolError):
        Participant.load(bytes(good), device(A), certificate(A), AUTHORITY.public_key())


def test_secrets_are_gone_after_the_reveal_and_after_an_error() -> None:
    secrets = participant(FIVE, A)._state
    assert secrets.mask_private in STATES[4]
    dead = participant(replace(FIVE), A)
    with pytest.raises(ProtocolError):
        dead.share(b"")
    for end in (STATES[5], dead.save()):
        for secret in (secrets.mask_private, secrets.share_private, secrets.self_seed):
            assert secret not in end
