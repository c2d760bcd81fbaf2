"""Each leg once and in order, one vector under one key, and a sum that is right or not at all."""

from dataclasses import replace

import numpy as np
import pytest
from secagg_attack import Round
from secagg_round import (
    AUTHORITY,
    BINDING,
    FIVE,
    FIVE_MEMBERS,
    SHARE_BYTES,
    aggregator,
    collect,
    drive,
    participant,
    plain_sum,
    reload,
    step,
    vector,
)

from common.errors import ProtocolError
from common.secagg import Aggregator, to_ring

A, B, C, D, E = FIVE_MEMBERS


def test_second_vector_is_never_masked() -> None:
    run = Round(2)
    vectors = [to_ring(vector(FIVE, m), FIVE.bits) for m in (A, B)]
    first = run.people[A].mask(run.inbound[A], vectors[0], BINDING)
    assert run.people[A].masked == run.people[A].masked == first
    assert reload(run.people[A]).masked == first
    again = reload(run.people[A])
    for who in (run.people[A], again):
        with pytest.raises(ProtocolError, match="Stage is masked"):
            who.mask(run.inbound[A], vectors[1], BINDING)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros(37, np.int32), np.zeros(36, np.uint32), np.zeros((37, 1), np.uint32)],
)
def test_vector_of_another_shape_or_type_is_refused(wrong) -> None:
    run = Round(2)
    with pytest.raises(ProtocolError, match="Vector"):
        run.people[A].mask(run.inbound[A], wrong, BINDING)
    run.is_dead(A)


def test_binding_of_another_length_is_refused() -> None:
    for wrong in (b"", bytes(31), bytes(33)):
        run = Round(2)
        with pytest.raises(ProtocolError, match="binding"):
            step(FIVE, 2, run.people[A], A, run.inbound[A], wrong)
        run.is_dead(A)


def test_the_vector_is_not_changed() -> None:
    run, ring = Round(2), to_ring(vector(FIVE, A), FIVE.bits)
    run.people[A].mask(run.inbound[A], ring, BINDING)
    assert np.array_equal(ring, to_ring(vector(FIVE, A), FIVE.bits))


@pytest.mark.parametrize("leg", range(5))
def test_legs_run_in_order_only(leg: int) -> None:
    for at in range(5):
        if at != leg:
            run = Round(at)
            with pytest.raises(ProtocolError, match="Stage is"):
                step(FIVE, leg, run.people[A], A, run.inbound[A])


def test_server_legs_run_in_order_only() -> None:
    for leg in range(1, 4):
        with pytest.raises(ProtocolError, match="Stage is adverts"):
            collect(aggregator(FIVE), leg, {})
    with pytest.raises(ProtocolError, match="Stage is adverts"):
        aggregator(FIVE).unmask({})
    with pytest.raises(ProtocolError, match="in stage adverts"):
        aggregator(FIVE).receive(A, b"")


def test_masked_input_arrives_one_by_one_and_repeats_do_not_count() -> None:
    run = Round(2)
    answers = run.answers(2)
    for member in (A, A, C, A):
        run.server.receive(member, answers[member])
    run.server.receive(77, answers[B])
    run.inbound = run.server.survivors({m: answers[m] for m in (A, B, D, E)})
    run.inbound = run.server.confirmations(run.answers(3))
    total = run.server.unmask(run.answers(4))
    expected = to_ring(plain_sum(FIVE, FIVE_MEMBERS), FIVE.bits)
    assert np.array_equal(total, expected)
    assert "never shared" in run.server.refused[77]


def test_a_round_is_bound_once_and_before_its_first_masked_input() -> None:
    run = Round(2)
    masked = run.answers(2)
    server = aggregator(FIVE, binding=None)
    for wrong in (b"", bytes(31)):
        with pytest.raises(ProtocolError, match="binding"):
            server.bind(wrong)
    again = Round(0)
    rosters = server.roster(again.answers(0))
    server.inboxes({m: again.people[m].share(rosters[m]) for m in FIVE_MEMBERS})
    for early in (lambda: server.receive(A, masked[A]), lambda: server.survivors(masked)):
        with pytest.raises(ProtocolError, match="not bound"):
            early()
    server.bind(BINDING)
    with pytest.raises(ProtocolError, match="bound to an adapter already"):
        server.bind(bytes(32))
    assert set(server.survivors(masked)) == set(FIVE_MEMBERS)


def test_a_wrong_share_does_no_harm_while_more_than_enough_are_right() -> None:
    def lie(leg: int, member: int, message: bytes) -> bytes:
        if (leg, member) != (4, A):
            return message
        return message[: -SHARE_BYTES + 2] + bytes(SHARE_BYTES - 2)

    outcome = drive(FIVE, FIVE_MEMBERS, {}, tamper=lie)
    assert outcome.total.tolist() == plain_sum(FIVE, FIVE_MEMBERS).tolist()


def test_too_many_wrong_shares_abandon_rather_than_give_a_wrong_sum() -> None:
    def lie(leg: int, member: int, message: bytes) -> bytes:
        if leg != 4 or member not in (A, B):
            return message
        return message[: -SHARE_BYTES + 2] + bytes(SHARE_BYTES - 2)

    outcome = drive(FIVE, FIVE_MEMBERS, {}, tamper=lie)
    assert outcome.abandoned_in == 4
    assert outcome.total is None


def test_more_members_than_the_cohort_are_refused() -> None:
    extra = participant(FIVE, 12).advertise()
    with pytest.raises(ProtocolError, match="exceeds the cohort"):
        aggregator(FIVE).roster({**Round(0).answers(0), 12: extra})


def test_representations_hold_no_secret() -> None:
    run = Round(3)
    state = run.people[A]._state
    assert repr(run.people[A]) == f"<Participant {A} masked>"
    assert repr(run.server) == "<Aggregator confirmations>"
    for secret in (state.mask_private, state.share_private, state.self_seed):
        assert secret.hex() not in repr(state) and repr(secret)[2:-1] not in repr(state)


def test_contradictory_terms_are_refused_by_both_sides() -> None:
    wrong = replace(FIVE, threshold=2)
    with pytest.raises(ProtocolError):
        participant(wrong, A)
    with pytest.raises(ProtocolError):
        Aggregator(wrong, AUTHORITY.public_key())
