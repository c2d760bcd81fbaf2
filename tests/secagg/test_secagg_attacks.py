"""A server, a network or a member that does not follow the protocol."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from secagg_round import (
    ADVERT_TABLE_ROW,
    AUTHORITY,
    BINDING,
    FIVE,
    FIVE_MEMBERS,
    HEADER_BYTES,
    SHARE_BYTES,
    aggregator,
    assert_no_member_exposed,
    certificate,
    collect,
    device,
    drive,
    participant,
    participants,
    plain_sum,
    reload,
    shares_in,
    step,
    vector,
)

from common.errors import DecodeError, ProtocolError, RoundAbandonedError
from common.secagg import (
    Aggregator,
    Participant,
    RoundTerms,
    certify,
    from_ring,
    to_ring,
    verify_certificate,
)
from common.secagg._hazmat import keys, prg
from common.secagg.messages import (
    Inbox,
    decode_advert,
    decode_confirmation,
    decode_confirmations,
    decode_inbox,
    decode_masked,
    decode_roster,
    encode_advert,
    encode_confirmations,
    encode_inbox,
    encode_roster,
    encode_survivors,
)
from common.secagg.quantize import add_packed
from common.secagg.terms import bound_digest

A, B, C, D, E = FIVE_MEMBERS
TERMS = FIVE.digest()
BOUND = bound_digest(TERMS, BINDING)
SPARSE = replace(FIVE, cohort=12, least=9, levels=2700, neighbours=4, threshold=3)


class Round:
    """A round up to a leg, with everybody's last messages at hand."""

    def __init__(
        self,
        legs: int,
        terms: RoundTerms = FIVE,
        drops: dict[int, int] | None = None,
        members: Collection[int] = FIVE_MEMBERS,
    ):
        self.people, self.server = participants(terms, members), aggregator(terms)
        self.inbound, self.terms = dict.fromkeys(members, b""), terms
        for leg in range(legs):
            arrived = {m: a for m, a in self.answers(leg).items() if (drops or {}).get(m, 9) > leg}
            self.inbound = collect(self.server, leg, arrived)

    def answers(self, leg: int) -> dict[int, bytes]:
        return {m: step(self.terms, leg, self.people[m], m, self.inbound[m]) for m in self.inbound}

    def refuses(self, leg: int, member: int, message: bytes, match: str) -> None:
        """The member raises, and afterwards gives nothing at all."""
        with pytest.raises(ProtocolError, match=match):
            step(self.terms, leg, self.people[member], member, message)
        self.is_dead(member)

    def is_dead(self, member: int) -> None:
        """The member's secrets are gone, and it answers nothing."""
        for then in range(5):
            with pytest.raises(ProtocolError, match="dead"):
                step(self.terms, then, self.people[member], member, self.inbound[member])
        with pytest.raises(ProtocolError):
            _ = self.people[member].masked
        private = participant(self.terms, member)._state
        saved = self.people[member].save()
        secrets = (private.mask_private, private.share_private, private.self_seed)
        assert not any(secret in saved for secret in secrets)


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


def row(member: int) -> int:
    """Where the member's row starts in the roster of five."""
    return HEADER_BYTES + 4 + ADVERT_TABLE_ROW * FIVE_MEMBERS.index(member)


def test_swapped_key_is_refused() -> None:
    for offset in (8, 8 + 32):  # mask key, share key
        run = Round(1)
        roster, at = run.inbound[A], row(B) + offset
        own = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        run.refuses(1, A, roster[:at] + own + roster[at + 32 :], "signature does not hold")


def test_own_key_swapped_or_missing_is_refused() -> None:
    run = Round(1)
    other = participant(FIVE, A, label="other").advertise()
    roster, at = run.inbound[A], row(A)
    swapped = roster[: at + 8] + other[HEADER_BYTES + 8 :] + roster[at + ADVERT_TABLE_ROW :]
    run.refuses(1, A, swapped, "does not hold the keys of member")
    count = (4).to_bytes(4, "big")
    without = roster[:HEADER_BYTES] + count + roster[HEADER_BYTES + 4 + ADVERT_TABLE_ROW :]
    Round(1).refuses(1, A, without, "does not hold the keys of member")


def test_every_flipped_byte_of_a_roster_is_refused() -> None:
    roster = Round(1).inbound[A]
    saved = Round(1).people[A].save()
    for at in range(0, len(roster), 7):
        wrong = roster[:at] + bytes([roster[at] ^ 0x10]) + roster[at + 1 :]
        who = Participant.load(saved, device(A), certificate(A), AUTHORITY.public_key())
        with pytest.raises(ProtocolError):
            who.share(wrong)


def test_enrolled_member_cannot_advertise_for_another_or_with_its_keys() -> None:
    adverts = Round(0).answers(0)
    server = aggregator(FIVE)
    stolen = {**adverts, B: adverts[A][:HEADER_BYTES] + adverts[B][HEADER_BYTES:][:8]
              + adverts[A][HEADER_BYTES + 8 :]}  # fmt: skip
    assert set(server.roster(stolen)) == {A, C, D, E}
    assert "certificate of" in server.refused[B]


def test_key_of_another_member_is_refused() -> None:
    """B signs A's mask key as its own."""
    thief = participant(FIVE, B)
    thief._state.mask_private = participant(FIVE, A)._state.mask_private
    adverts = {**Round(0).answers(0), B: thief.advertise()}
    server = aggregator(FIVE)
    assert set(server.roster(adverts)) == {A, C, D, E}
    assert "taken" in server.refused[B]


def test_forged_certificate_is_refused() -> None:
    rogue = Ed25519PrivateKey.generate()
    forged = certify(rogue, A, device(A).public_key())
    with pytest.raises(ProtocolError, match="signature does not hold"):
        Participant(FIVE, A, device(A), forged, AUTHORITY.public_key())
    advert = Participant(FIVE, A, device(A), forged, rogue.public_key()).advertise()
    server = aggregator(FIVE)
    server.roster({**Round(0).answers(0), A: advert})
    assert list(server.refused) == [A]


@pytest.mark.parametrize("at", [0, 1, 8, 9, 40, 41, 104])
def test_altered_certificate_is_refused(at: int) -> None:
    good = certificate(A)
    assert verify_certificate(good, AUTHORITY.public_key()).member == A
    with pytest.raises(ProtocolError):
        verify_certificate(
            good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :], AUTHORITY.public_key()
        )
    for wrong in (good[:-1], good + b"\0", b""):
        with pytest.raises(DecodeError):
            verify_certificate(wrong, AUTHORITY.public_key())


def test_certificate_of_another_member_or_device_is_refused() -> None:
    for member, key in ((A, device(B)), (B, device(A))):
        with pytest.raises(ProtocolError, match="is not of member"):
            Participant(FIVE, member, key, certificate(A), AUTHORITY.public_key())
    with pytest.raises(ProtocolError, match="outside"):
        certify(AUTHORITY, -1, device(A).public_key())


OTHERS = [replace(FIVE, run="other"), replace(FIVE, round=4), replace(FIVE, attempt=1)]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("leg", range(1, 5))
def test_messages_of_another_round_are_refused(leg: int, other: RoundTerms) -> None:
    Round(leg).refuses(leg, A, Round(leg, other).inbound[A], "digest")


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("leg", range(5))
def test_member_messages_of_another_round_are_refused(leg: int, other: RoundTerms) -> None:
    replayed = Round(leg, other).answers(leg)
    outcome = drive(FIVE, FIVE_MEMBERS, {}, tamper=lambda at, m, data: (
        replayed[m] if (at, m) == (leg, A) else data))  # fmt: skip
    assert "digest" in outcome.refused[A]
    assert outcome.total is not None


@pytest.mark.parametrize("other", OTHERS)
def test_keys_of_another_round_are_refused(other: RoundTerms) -> None:
    """The server knows B's secrets of another round and gives its keys out as those of this."""
    old = decode_advert(other.digest(), B, participant(other, B, "old").advertise())
    run = Round(1)
    adverts = {**decode_roster(TERMS, run.inbound[A]), B: old}
    run.refuses(1, A, encode_roster(TERMS, adverts), "signature does not hold")
    server = aggregator(FIVE)
    server.roster({**Round(0).answers(0), B: encode_advert(TERMS, B, old)})
    assert "signature does not hold" in server.refused[B]


def test_members_given_other_settings_contribute_nothing() -> None:
    """Other settings, other digest, so the advert does not even count."""
    target = participant(replace(FIVE, training="00" * 32), A)
    server = aggregator(FIVE)
    assert A not in server.roster({**Round(0).answers(0), A: target.advertise()})


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
        Inbox((A, B, C, D, 77), inbox.sealed),
        Inbox((A, B, C, D), inbox.sealed),
        Inbox((A, B, C, D, E), {**inbox.sealed, A: inbox.sealed[B]}),
    ):
        Round(2).refuses(2, A, encode_inbox(TERMS, wrong), "fit")


def test_swapped_and_replayed_shares_do_not_open() -> None:
    run = Round(2)
    inbox = decode_inbox(TERMS, run.inbound[A])
    swapped = {**inbox.sealed, B: inbox.sealed[C], C: inbox.sealed[B]}
    run.refuses(2, A, encode_inbox(TERMS, Inbox(inbox.sharers, swapped)), "authenticate")
    other = decode_inbox(TERMS, Round(2).inbound[B]).sealed[C]
    replayed = {**inbox.sealed, C: other}
    Round(2).refuses(2, A, encode_inbox(TERMS, Inbox(inbox.sharers, replayed)), "authenticate")


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


def test_share_from_someone_who_did_not_choose_the_member_is_refused() -> None:
    holders = drive(SPARSE, range(12), {}).holders
    stranger = next(m for m in range(1, 12) if 0 not in holders[m])
    digest = SPARSE.digest()
    inbox = decode_inbox(digest, Round(2, SPARSE, members=range(12)).inbound[0])
    assert stranger not in inbox.sealed
    elsewhere = decode_inbox(
        digest, Round(2, SPARSE, members=range(12)).inbound[holders[stranger][0]]
    ).sealed[stranger]
    for forged in (bytes(160), elsewhere, next(iter(inbox.sealed.values()))):
        run = Round(2, SPARSE, members=range(12))
        told = Inbox(inbox.sharers, {**inbox.sealed, stranger: forged})
        run.refuses(2, 0, encode_inbox(digest, told), "authenticate")


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
    assert "shares that were due" in run.server.refused[j]
