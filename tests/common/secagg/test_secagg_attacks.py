"""Keys, certificates, shares and messages that are forged, swapped or of another round."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from secagg_attack import Round
from secagg_round import (
    ADVERT_TABLE_ROW,
    AUTHORITY,
    FIVE,
    FIVE_MEMBERS,
    HEADER_BYTES,
    aggregator,
    certificate,
    device,
    drive,
    participant,
)

from common.errors import DecodeError, ProtocolError
from common.secagg import Participant, RoundTerms, certify, verify_certificate
from common.secagg.messages import (
    Inbox,
    decode_advert,
    decode_inbox,
    decode_opened,
    decode_roster,
    encode_advert,
    encode_inbox,
    encode_roster,
)

A, B, C, D, E = FIVE_MEMBERS
TERMS = FIVE.digest()
SPARSE = replace(FIVE, cohort=12, least=9, levels=2700, neighbours=4, threshold=3)


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
    opened = {m: decode_advert(TERMS, m, data) for m, data in adverts.items()}
    Round(1).refuses(1, C, encode_roster(TERMS, opened), "taken")


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


def test_swapped_and_replayed_shares_do_not_open() -> None:
    run = Round(2)
    inbox = decode_inbox(TERMS, run.inbound[A])
    swapped = {**inbox.sealed, B: inbox.sealed[C], C: inbox.sealed[B]}
    assert unopened(run, A, Inbox(inbox.sharers, swapped)) == {B, C}
    other = decode_inbox(TERMS, Round(2).inbound[B]).sealed[C]
    replayed = {**inbox.sealed, C: other}
    assert unopened(run, A, Inbox(inbox.sharers, replayed)) == {C}


def unopened(run: Round, member: int, inbox: Inbox) -> frozenset[int]:
    digest = run.terms.digest()
    answer = run.people[member].open(encode_inbox(digest, inbox))
    return decode_opened(digest, member, answer)


def test_share_from_someone_who_did_not_choose_the_member_does_not_open() -> None:
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
        assert unopened(run, 0, told) == {stranger}
