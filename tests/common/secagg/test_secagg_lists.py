"""A server that tells different members different things, or leaves too few of them."""

from dataclasses import replace

import numpy as np
import pytest
from secagg_attack import Round
from secagg_round import (
    ADVERT_TABLE_ROW,
    BINDING,
    FIVE,
    FIVE_MEMBERS,
    HEADER_BYTES,
    assert_no_member_exposed,
    collect,
    device,
    drive,
    plain_sum,
    shares_in,
    step,
)

from common.errors import ProtocolError, RoundAbandonedError
from common.secagg import from_ring, to_ring
from common.secagg._hazmat import keys, prg
from common.secagg.messages import (
    Inbox,
    decode_confirmation,
    decode_confirmations,
    decode_inbox,
    decode_masked,
    encode_confirmations,
    encode_inbox,
    encode_survivors,
)
from common.secagg.quantize import add_packed
from common.secagg.terms import bound_digest

A, B, C, D, E = FIVE_MEMBERS
TERMS = FIVE.digest()
BOUND = bound_digest(TERMS, BINDING)
SPARSE = replace(FIVE, cohort=12, least=9, levels=2700, neighbours=4, threshold=3)


def survivors(*members: int) -> bytes:
    return encode_survivors(BOUND, members)


def test_both_shares_cannot_be_had_from_two_lists() -> None:
    """A is a survivor to half of the members and dropped to the other half."""
    run = Round(3)
    with_a, without_a = survivors(A, B, C, D, E), survivors(B, C, D, E)
    lists = {A: with_a, B: with_a, C: with_a, D: without_a, E: without_a}
    signed = {m: run.people[m].confirm(lists[m]) for m in FIVE_MEMBERS}
    signatures = {m: decode_confirmation(BOUND, m, data) for m, data in signed.items()}
    mixed = encode_confirmations(BOUND, signatures)
    own_side = encode_confirmations(BOUND, {m: signatures[m] for m in (A, B, C)})
    other_side = encode_confirmations(BOUND, {m: signatures[m] for m in (D, E)})
    run.refuses(4, B, mixed, "signature does not hold")
    run.refuses(4, C, own_side, "3 members are left")
    run.refuses(4, D, other_side, "2 members are left")


def test_two_lists_of_sharers_are_noticed() -> None:
    """B is told that E never shared, the others that it did."""
    run = Round(2)
    inbox = decode_inbox(TERMS, run.inbound[B])
    sealed = {m: s for m, s in inbox.sealed.items() if m != E}
    masked = {
        m: step(FIVE, 2, run.people[m], m, run.inbound[m]) for m in FIVE_MEMBERS if m not in (B, E)
    }
    masked[B] = step(FIVE, 2, run.people[B], B, encode_inbox(TERMS, Inbox((A, B, C, D), sealed)))
    told = run.server.survivors(masked)
    signed = {m: run.people[m].confirm(told[m]) for m in told}
    signatures = {m: decode_confirmation(BOUND, m, data) for m, data in signed.items()}
    run.refuses(4, A, encode_confirmations(BOUND, signatures), "signature does not hold")
    with pytest.raises(RoundAbandonedError):
        run.server.confirmations(signed)
    assert list(run.server.refused) == [B]


def test_shrunk_roster_is_refused() -> None:
    roster = Round(1).inbound[E]
    for size in (0, 1, 2, 3):
        run = Round(1)
        count = size.to_bytes(4, "big")
        rows = roster[HEADER_BYTES + 4 :][-size * ADVERT_TABLE_ROW :][: size * ADVERT_TABLE_ROW]
        run.refuses(1, E, roster[:HEADER_BYTES] + count + rows, f"{size} members are left, 4 are")


def test_shrunk_lists_are_refused() -> None:
    run = Round(2)
    inbox = decode_inbox(TERMS, run.inbound[A])
    few = Inbox((A, B, C), {m: inbox.sealed[m] for m in (B, C)})
    run.refuses(2, A, encode_inbox(TERMS, few), "3 members are left")
    Round(3).refuses(3, A, survivors(A, B, C), "3 members are left")
    run = Round(4)
    signatures = decode_confirmations(BOUND, run.inbound[A])
    fewer = {m: signatures[m] for m in (A, B, C)}
    run.refuses(4, A, encode_confirmations(BOUND, fewer), "3 members are left")


def test_lists_that_contradict_earlier_ones_are_refused() -> None:
    Round(3).refuses(3, A, survivors(B, C, D, E), "include this member")
    Round(3, drops={E: 1}).refuses(3, A, survivors(A, B, C, D, E), "not sharers")
    Round(3).refuses(3, A, survivors(A, B, C, D, 77), "not sharers")
    inbox = decode_inbox(TERMS, Round(2).inbound[A])
    for wrong in (
        Inbox((B, C, D, E), inbox.sealed),
        Inbox((A, B, C, D, E, 77), inbox.sealed),
        Inbox((A, B, C, D), inbox.sealed),
        Inbox((A, B, C, D, E), {**inbox.sealed, A: inbox.sealed[B]}),
    ):
        Round(2).refuses(2, A, encode_inbox(TERMS, wrong), "fit")


def test_confirmations_from_outside_are_refused() -> None:
    """E dropped, but signs the list without it, as a colluder can; so does a stranger."""
    run = Round(4, drops={E: 2})
    signed = decode_confirmations(BOUND, run.inbound[A])
    statement = run.server._statement
    with_e = encode_confirmations(BOUND, {**signed, E: device(E).sign(statement)})
    run.refuses(4, A, with_e, "who are not all survivors")
    stranger = encode_confirmations(BOUND, {**signed, 77: device(77).sign(statement)})
    run.refuses(4, B, stranger, "not in the roster")


def test_one_forged_confirmation_is_refused() -> None:
    run = Round(4)
    forged = run.inbound[A][:-1] + bytes([run.inbound[A][-1] ^ 1])
    run.refuses(4, A, forged, "signature does not hold")


def test_late_masked_input_is_refused_and_stays_masked() -> None:
    """E is declared dropped; its masked input then arrives, or was held back by the server."""
    run = Round(2)
    masked = run.answers(2)
    late = masked.pop(E)
    run.inbound = run.server.survivors(masked)
    with pytest.raises(ProtocolError, match="in stage confirmations"):
        run.server.receive(E, late)
    told = run.inbound[A]
    run.inbound = run.server.confirmations(run.answers(3))
    reveals = run.answers(4)
    counts = shares_in(reveals.values())
    assert counts[E, 1] >= FIVE.threshold
    assert (E, 0) not in counts
    assert_no_member_exposed(FIVE, reveals.values())
    with pytest.raises(ProtocolError, match="include this member"):
        run.people[E].confirm(told)
    run.inbound[E] = b""
    run.is_dead(E)
    assert np.array_equal(run.server.unmask(reveals), to_ring(plain_sum(FIVE, (A, B, C, D)), 16))


def masked_sum(run: Round, bindings: dict[int, bytes]) -> np.ndarray:
    """The sum that a server has once it knows every self-mask seed."""
    total = np.zeros(run.terms.dimension, np.uint32)
    for member, binding in bindings.items():
        bound = bound_digest(TERMS, binding)
        data = step(run.terms, 2, run.people[member], member, run.inbound[member], binding)
        add_packed(total, decode_masked(bound, member, data), run.terms.bits)
        seed = run.people[member]._state.self_seed
        own = run.server._roster.mask_party(member)
        prg.add_masks(total, [(keys.self_mask_key(bound, seed, own), -1)])
    return from_ring(total, run.terms.bits)


def test_other_adapters_for_other_members_give_noise_and_nobody_reveals() -> None:
    """Model inconsistency: the server hands out two adapters and wants one side's sum."""
    other = bytes(32)
    same = masked_sum(Round(2), dict.fromkeys(FIVE_MEMBERS, BINDING))
    assert same.tolist() == plain_sum(FIVE, FIVE_MEMBERS).tolist()

    run = Round(2)
    bindings = {A: BINDING, B: BINDING, C: BINDING, D: other, E: other}
    mixed = masked_sum(run, bindings)
    assert np.count_nonzero(mixed == plain_sum(FIVE, FIVE_MEMBERS)) < 3  # of 37, each by 2^-16
    bounds = {m: bound_digest(TERMS, binding) for m, binding in bindings.items()}
    signatures = {}
    for member, bound in bounds.items():
        signed = run.people[member].confirm(encode_survivors(bound, FIVE_MEMBERS))
        signatures[member] = decode_confirmation(bound, member, signed)
    both = encode_confirmations(bounds[A], signatures)
    run.refuses(4, A, both, "signature does not hold")
    one_side = encode_confirmations(bounds[B], {m: signatures[m] for m in (A, B, C)})
    run.refuses(4, B, one_side, "3 members are left")
    run.refuses(4, D, encode_confirmations(bounds[D], signatures), "signature does not hold")
    run.refuses(4, E, one_side, "digest of terms and binding")


def test_one_member_given_another_adapter_has_dropped() -> None:
    run = Round(2)
    masked = run.answers(2)
    target = Round(2)
    masked[E] = step(FIVE, 2, target.people[E], E, target.inbound[E], bytes(32))
    run.inbound = run.server.survivors(masked)
    assert "digest of terms and binding" in run.server.refused[E]
    run.inbound = run.server.confirmations(run.answers(3))
    total = run.server.unmask(run.answers(4))
    assert np.array_equal(total, to_ring(plain_sum(FIVE, (A, B, C, D)), FIVE.bits))


def test_hiding_one_direction_of_an_edge_spoils_the_sum_and_reveals_nothing() -> None:
    """i masks towards the holder j that it chose; the server keeps i's shares from j."""
    holders = drive(SPARSE, range(12), {}).holders
    i, j = next((i, j) for i in holders for j in holders[i] if i not in holders[j])
    run = Round(2, SPARSE, members=range(12))
    inbox = decode_inbox(SPARSE.digest(), run.inbound[j])
    without = {m: box for m, box in inbox.sealed.items() if m != i}
    run.inbound[j] = encode_inbox(SPARSE.digest(), Inbox(inbox.sharers, without))
    for leg in (2, 3):
        run.inbound = collect(run.server, leg, run.answers(leg))
    reveals = run.answers(4)
    assert (i, 0) not in shares_in([reveals[j]])
    assert_no_member_exposed(SPARSE, reveals.values())
    total = from_ring(run.server.unmask(reveals), SPARSE.bits)
    assert np.count_nonzero(total == plain_sum(SPARSE, range(12))) < 3  # of 37, each by 2^-16
    assert j not in run.server.refused  # nobody can tell whose fault it is
