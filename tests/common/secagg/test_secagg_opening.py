"""Shares that do not open: found before anybody masks, and no honest member pays for them."""

import random
from collections.abc import Collection
from dataclasses import replace

import pytest
from secagg_attack import Round
from secagg_round import BINDING, FIVE, FIVE_MEMBERS, collect, plain_sum, step, vector

from common.errors import ProtocolError, RoundAbandonedError
from common.secagg import RoundTerms, from_ring, messages, to_ring
from common.secagg._hazmat import keys

A, B, C, D, E = FIVE_MEMBERS
EIGHT = replace(FIVE, cohort=8, least=6, levels=4000, neighbours=7, threshold=5, colluders=1)
SPARSE = replace(FIVE, cohort=12, least=9, levels=2700, neighbours=6, threshold=4, colluders=1)
NOT_A_SHARE = b"\xff" * 132


def lie(
    run: Round, liar: int, shares: bytes, victims: Collection[int], plain: bytes | None
) -> bytes:
    """The liar's message with other bytes sealed for these holders, or bytes instead of boxes."""
    digest = run.terms.digest()
    sent = messages.decode_shares(digest, liar, shares)
    holders = sent.sealed.keys() & set(victims)
    boxes = run.people[liar]._sealer()._share_keys(holders, outgoing=True)
    bad = {m: bytes(160) if plain is None else keys.seal(boxes[m], plain, bytes) for m in holders}
    return messages.encode_shares(
        digest, liar, messages.Shares(sent.commitment, {**sent.sealed, **bad})
    )


def opened(run: Round, silent: Collection[int] = ()) -> dict[int, bytes]:
    return {m: run.people[m].open(inbox) for m, inbox in run.inbound.items() if m not in silent}


def finished(run: Round, drops: Collection[int] = ()) -> tuple[set[int], list[int]]:
    """Who is in the sum, and the sum, of a round whose inboxes are out; `drops` never mask."""
    for leg in (2, 3):
        answers = run.answers(leg)
        arrived = {m: data for m, data in answers.items() if m not in drops}
        run.inbound = collect(run.server, leg, arrived)
    total = run.server.unmask(run.answers(4))
    return set(run.inbound), from_ring(total, run.terms.bits).tolist()


def shared(
    terms: RoundTerms,
    members: Collection[int],
    liar: int | None = None,
    victims: Collection[int] = (),
    plain: bytes | None = NOT_A_SHARE,
) -> Round:
    """A round whose inboxes are out; the liar's shares do not open for the victims."""
    run = Round(1, terms, members=members)
    answers = run.answers(1)
    if liar is not None:
        answers[liar] = lie(run, liar, answers[liar], victims, plain)
    run.inbound = collect(run.server, 1, answers)
    return run


@pytest.mark.parametrize("plain", [None, NOT_A_SHARE], ids=["garbage", "no field elements"])
def test_whose_shares_nobody_can_open_is_not_part_of_the_round(plain: bytes | None) -> None:
    members = range(8)
    run = shared(EIGHT, members, 3, members, plain)
    run.inbound = run.server.settle(opened(run))
    honest = set(members) - {3}
    assert set(run.inbound) == honest
    assert (run.server.refused, run.server.left_out) == ({}, {3})
    for inbox in run.inbound.values():
        assert messages.decode_inbox(EIGHT.digest(), inbox).sharers == tuple(sorted(honest))
    assert finished(run) == (honest, plain_sum(EIGHT, honest).tolist())


@pytest.mark.parametrize("drops", [(), (5,), (3,)], ids=["nobody", "an honest one", "the liar"])
def test_a_few_bad_boxes_cost_nobody_the_round(drops: tuple[int, ...]) -> None:
    """Two of seven holders have no share of 3; the five others are the threshold."""
    members = range(8)
    run = shared(EIGHT, members, 3, (0, 5))
    run.inbound = run.server.settle(opened(run))
    assert set(run.inbound) == set(members)
    survivors, total = finished(run, drops)
    assert survivors == set(members) - set(drops)
    assert total == plain_sum(EIGHT, survivors).tolist()
    assert (run.server.refused, run.server.left_out) == ({}, set())


def test_in_a_sparse_graph_too() -> None:
    members = range(12)
    for seed in range(6):
        chance = random.Random(seed)
        liar = chance.choice(members)
        victims = chance.sample(members, chance.randrange(13))
        run = shared(SPARSE, members, liar, victims)
        run.inbound = run.server.settle(opened(run))
        held = set(run.server._holders.get(liar, ())) - set(victims)
        assert (liar in run.inbound) == (len(held) >= SPARSE.threshold)
        assert set(run.inbound) >= set(members) - {liar}
        survivors, total = finished(run)
        assert total == plain_sum(SPARSE, survivors).tolist()


def test_who_blames_everybody_harms_nobody() -> None:
    members = range(8)
    run = shared(EIGHT, members)
    answers = opened(run)
    everybody = [m for m in members if m != 3]
    answers[3] = messages.encode_opened(EIGHT.digest(), 3, everybody)
    run.inbound = run.server.settle(answers)
    assert finished(run) == (set(members), plain_sum(EIGHT, members).tolist())


def test_who_blames_an_honest_one_of_three_names_nobody_else() -> None:
    """No round can be made; 1 was not opened by both others, and that is all that is known."""
    three = replace(FIVE, cohort=3, least=3, neighbours=2, threshold=2, colluders=1)
    run = shared(three, (1, 2, 3))
    answers = opened(run)
    answers[3] = messages.encode_opened(three.digest(), 3, [1])
    with pytest.raises(RoundAbandonedError) as abandoned:
        run.server.settle(answers)
    assert str(abandoned.value) == (
        "2 members are left, 3 are needed: too few holders opened the shares of 1 of the members; "
        "who is at fault cannot be known."
    )
    assert (run.server.refused, run.server.left_out) == ({}, {1})


def test_who_blames_members_that_did_not_choose_it_is_refused() -> None:
    run = shared(FIVE, FIVE_MEMBERS)
    answers = opened(run)
    answers[A] = messages.encode_opened(FIVE.digest(), A, [A])
    assert set(run.server.settle(answers)) == {B, C, D, E}
    assert "not sent to it" in run.server.refused[A]


def test_who_does_not_answer_is_not_part_of_the_round() -> None:
    run = shared(EIGHT, range(8))
    run.inbound = run.server.settle(opened(run, silent=(1, 6)))
    left = set(range(8)) - {1, 6}
    assert finished(run) == (left, plain_sum(EIGHT, left).tolist())
    run = shared(EIGHT, range(8))
    with pytest.raises(RoundAbandonedError, match="5 members are left"):
        run.server.settle(opened(run, silent=(1, 6, 7)))


def test_once_masked_inputs_come_nothing_is_settled_any_more() -> None:
    run = Round(2)
    answers = opened(run)
    run.server.receive(A, run.answers(2)[A])
    with pytest.raises(ProtocolError, match="Masked inputs have come"):
        run.server.settle(answers)


def test_a_wrong_inbox_is_refused_before_there_is_a_vector() -> None:
    """What `mask` refuses, `open` refuses; and it can be asked again."""
    run = Round(2)
    inbox, who = run.inbound[A], run.people[A]
    saved, first = who.save(), who.open(inbox)
    few = messages.encode_inbox(FIVE.digest(), messages.Inbox((A, B), {}))
    for wrong in (bytes(42), b"", inbox[:-1], inbox + b"\0", few, Round(2).inbound[B][:-1]):
        with pytest.raises(ProtocolError):
            who.open(wrong)
    assert who.open(inbox) == first
    assert who.save() == saved
    who.mask(inbox, to_ring(vector(FIVE, A), FIVE.bits), BINDING)
    with pytest.raises(ProtocolError, match="not shared"):
        who.open(inbox)


def test_a_box_that_was_made_up_adds_a_mask_and_gives_no_share() -> None:
    """A member in whose name the server wrote is masked towards; nothing of it is revealed."""
    run = Round(2)
    inbox = messages.decode_inbox(FIVE.digest(), run.inbound[A])
    forged = messages.Inbox(inbox.sharers, {**inbox.sealed, B: bytes(160)})
    run.inbound[A] = messages.encode_inbox(FIVE.digest(), forged)
    for leg in (2, 3):
        run.inbound = collect(run.server, leg, run.answers(leg))
    reveal = step(FIVE, 4, run.people[A], A, run.inbound[A])
    bound = run.server._bound
    assert set(messages.decode_reveal(bound, A, reveal)) == set(FIVE_MEMBERS) - {A, B}
