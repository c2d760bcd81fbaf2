"""Members that lie to the server, and holders that a lying server takes away."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from secagg_attack import Round
from secagg_round import (
    BINDING,
    FIVE,
    FIVE_MEMBERS,
    HEADER_BYTES,
    SHARE_BYTES,
    aggregator,
    collect,
    device,
    drive,
    participant,
    participants,
    plain_sum,
    step,
)

from common.errors import RoundAbandonedError
from common.secagg.messages import (
    Advert,
    Inbox,
    decode_advert,
    decode_inbox,
    encode_advert,
    encode_confirmation,
    encode_inbox,
    encode_roster,
    encode_survivors,
)
from common.secagg.roster import advert_statement
from common.secagg.terms import bound_digest

A, B, C, D, E = FIVE_MEMBERS
TERMS = FIVE.digest()
SPARSE = replace(FIVE, cohort=12, least=9, levels=2700, neighbours=4, threshold=3)


def adverts() -> dict[int, bytes]:
    return {m: who.advertise() for m, who in participants(FIVE, FIVE_MEMBERS).items()}


def test_starved_neighbourhood_stops_a_member_before_it_masks() -> None:
    holders = drive(SPARSE, range(12), {}).holders
    people, server = participants(SPARSE, range(12)), aggregator(SPARSE)
    inbound = server.roster({m: who.advertise() for m, who in people.items()})
    inbound = server.inboxes({m: people[m].share(inbound[m]) for m in people})
    gone = set(holders[0][:2])
    for member in starved(holders, gone):
        sealed = decode_inbox(SPARSE.digest(), inbound[member]).sealed
        told = Inbox(
            tuple(set(range(12)) - gone), {m: s for m, s in sealed.items() if m not in gone}
        )
        with pytest.raises(RoundAbandonedError, match="2 holders of member"):
            step(SPARSE, 2, people[member], member, encode_inbox(SPARSE.digest(), told))


def starved(holders: Mapping[int, tuple[int, ...]], gone: set[int]) -> list[int]:
    """Who has too few holders without `gone`; member 0 at least."""
    found = [m for m in set(holders) - gone if len(set(holders[m]) - gone) < SPARSE.threshold]
    assert 0 in found
    return found


def test_starved_neighbourhood_stops_a_member_before_it_signs() -> None:
    holders = drive(SPARSE, range(12), {}).holders
    people, server = participants(SPARSE, range(12)), aggregator(SPARSE)
    inbound = dict.fromkeys(range(12), b"")
    for leg in range(3):
        answers = {m: step(SPARSE, leg, people[m], m, inbound[m]) for m in inbound}
        inbound = collect(server, leg, answers)
    gone = set(holders[0][:2])
    told = encode_survivors(bound_digest(SPARSE.digest(), BINDING), set(range(12)) - gone)
    for member in starved(holders, gone):
        with pytest.raises(RoundAbandonedError, match="2 holders of member"):
            people[member].confirm(told)


def test_a_roster_below_the_least_abandons() -> None:
    assert drive(SPARSE, range(8), {}).abandoned_in == 0
    assert drive(SPARSE, range(9), {}).abandoned_in is None


@pytest.mark.parametrize("which", [0, 1])
def test_low_order_key_in_an_advert_is_refused(which: int) -> None:
    honest = decode_advert(TERMS, B, adverts()[B])
    keys = [honest.mask_public, honest.share_public]
    keys[which] = bytes(32)
    signature = device(B).sign(advert_statement(TERMS, B, *keys))
    advert = encode_advert(TERMS, B, Advert(*keys, honest.certificate, signature))
    server = aggregator(FIVE)
    assert set(server.roster({**adverts(), B: advert})) == {A, C, D, E}
    assert "low order" in server.refused[B]
    opened = {m: decode_advert(TERMS, m, data) for m, data in {**adverts(), B: advert}.items()}
    Round(1).refuses(1, A, encode_roster(TERMS, opened), "low order")


def test_one_key_for_both_uses_is_refused() -> None:
    lazy = participant(FIVE, B)
    lazy._state.share_private = lazy._state.mask_private
    server = aggregator(FIVE)
    assert set(server.roster({**adverts(), B: lazy.advertise()})) == {A, C, D, E}
    assert "taken" in server.refused[B]


def tampered(leg: int, member: int, change: Callable[[bytes], bytes]):
    """A round of five in which one member's message in one leg is changed."""

    def tamper(at: int, sender: int, message: bytes) -> bytes:
        return change(message) if (at, sender) == (leg, member) else message

    return drive(FIVE, FIVE_MEMBERS, {}, tamper=tamper)


def test_shares_for_too_few_holders_oneself_or_outsiders_are_refused() -> None:
    count_at = HEADER_BYTES + 8 + 32
    rows = count_at + 4
    for change in (
        lambda m: m[:count_at] + (3).to_bytes(4, "big") + m[rows:-168],
        lambda m: m[: rows + 168] + B.to_bytes(8, "big") + m[rows + 168 + 8 :],
        lambda m: m[: rows + 168] + (12).to_bytes(8, "big") + m[rows + 168 + 8 :],
        lambda m: m[: rows + 168] + (2**64 - 2).to_bytes(8, "big") + m[rows + 168 + 8 :],
    ):
        outcome = tampered(1, B, change)
        assert re.search("4 others of the roster|ids must ascend", outcome.refused[B])
        assert outcome.survivors == {A, C, D, E}


def test_shares_from_outside_the_roster_are_refused() -> None:
    people, server = participants(FIVE, FIVE_MEMBERS), aggregator(FIVE)
    inbound = server.roster({m: people[m].advertise() for m in FIVE_MEMBERS})
    shares = {m: people[m].share(inbound[m]) for m in FIVE_MEMBERS}
    stranger = (77).to_bytes(8, "big")
    shares[77] = shares[A][:HEADER_BYTES] + stranger + shares[A][HEADER_BYTES + 8 :]
    assert set(server.inboxes(shares)) == set(FIVE_MEMBERS)
    assert "not in the roster" in server.refused[77]


def test_the_other_share_is_refused() -> None:
    which = -(8 + 1 + SHARE_BYTES) + 8
    outcome = tampered(4, B, lambda m: m[:which] + b"\x01" + m[which + 1 :])
    assert "not due" in outcome.refused[B]
    assert outcome.total.tolist() == plain_sum(FIVE, FIVE_MEMBERS).tolist()


def test_a_share_that_is_missing_is_nobodys_fault() -> None:
    """Whether its holder keeps it back or never got one, nobody can tell."""
    row, count_at = 8 + 1 + SHARE_BYTES, HEADER_BYTES + 8
    outcome = tampered(
        4, B, lambda m: m[:count_at] + (3).to_bytes(4, "big") + m[count_at + 4 : -row]
    )
    assert outcome.refused == {}
    assert outcome.total.tolist() == plain_sum(FIVE, FIVE_MEMBERS).tolist()


def test_share_outside_the_field_is_refused() -> None:
    outcome = tampered(4, B, lambda m: m[:-SHARE_BYTES] + b"\xff" * SHARE_BYTES)
    assert "field element" in outcome.refused[B]
    assert outcome.total is not None


def test_share_that_shifts_the_secret_by_one_is_noticed() -> None:
    """The lie keeps the rebuilt seed in range, so only the commitment can tell."""
    prime, xs = 2**521 - 1, {m: m + 1 for m in (A, B, C)}  # the first t holders for E
    weight = 1
    for other in (B, C):
        weight = weight * xs[other] * pow(xs[other] - xs[A], -1, prime) % prime

    def lie(message: bytes) -> bytes:
        share = int.from_bytes(message[-SHARE_BYTES:], "big") + pow(weight, -1, prime)
        return message[:-SHARE_BYTES] + (share % prime).to_bytes(SHARE_BYTES, "big")

    outcome = tampered(4, A, lie)
    assert outcome.refused == {}
    assert outcome.total.tolist() == plain_sum(FIVE, FIVE_MEMBERS).tolist()


def test_who_did_not_confirm_may_not_reveal() -> None:
    people, server = participants(FIVE, FIVE_MEMBERS), aggregator(FIVE)
    inbound = dict.fromkeys(FIVE_MEMBERS, b"")
    for leg in range(3):
        answers = {m: step(FIVE, leg, people[m], m, inbound[m]) for m in inbound}
        inbound = collect(server, leg, answers)
    signed = {m: people[m].confirm(inbound[m]) for m in FIVE_MEMBERS}
    late = signed.pop(A)
    told = server.confirmations(signed)
    assert A not in told
    assert len(late) == HEADER_BYTES + 72
    server.unmask({m: people[m].reveal(told[B]) for m in FIVE_MEMBERS})
    assert "did not confirm" in server.refused[A]


def test_who_is_not_in_the_sum_may_not_confirm() -> None:
    run = Round(3, drops={E: 2})
    signature = device(E).sign(run.server._statement)
    signed = {**run.answers(3), E: encode_confirmation(bound_digest(TERMS, BINDING), E, signature)}
    assert set(run.server.confirmations(signed)) == {A, B, C, D}
    assert "not in the sum" in run.server.refused[E]
