"""Against Privity: public keys that are not whose the server says, or not of this round.

Round keys are signed, together with the digest of the round's terms, by a device key that the
enrolment authority has certified.
"""

from __future__ import annotations

from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.secagg import Participant
from common.secagg.messages import (
    Inbox,
    decode_advert,
    decode_roster,
    decode_shares,
    encode_inbox,
    encode_roster,
)
from simulations.evidence.attacks.measure import (
    AttackOutcome,
    RefusalsSeen,
    reconstruction,
    synthetic_update,
)
from simulations.evidence.attacks.on_privity.attacker import Attacker
from simulations.evidence.attacks.on_privity.broken import BrokenTakesAnyRoster
from simulations.evidence.attacks.on_privity.round import (
    BINDING,
    LEGS,
    MASK,
    MEMBERS,
    TERMS,
    VICTIM,
    PrivityRound,
    member,
)

T = TERMS.digest()
EARLIER = replace(TERMS, round=TERMS.round - 1)
OTHERS = tuple(m for m in MEMBERS if m != VICTIM)


def swapped_keys(kind: type[Participant] = Participant) -> AttackOutcome:
    """Other keys behind the true certificates; then peers whom another authority has enrolled."""
    refusals, rogue = RefusalsSeen(), Ed25519PrivateKey.generate()
    fakes = {m: member(TERMS, m, BrokenTakesAnyRoster, authority=rogue) for m in OTHERS}
    adverts = {m: decode_advert(T, m, fake.advertise()) for m, fake in fakes.items()}
    run = PrivityRound(kind=kind).until(1)
    true = decode_roster(T, run.messages(1)[VICTIM])
    certified = {m: replace(adverts[m], certificate=true[m].certificate) for m in OTHERS}
    refusals.ask(run.people[VICTIM].share, encode_roster(T, true | certified))
    victim = member(TERMS, VICTIM, kind)
    adverts[VICTIM] = decode_advert(T, VICTIM, victim.advertise())
    roster = encode_roster(T, adverts)
    shares = refusals.ask(victim.share, roster)
    if shares is None:
        return AttackOutcome(False, f"{refusals}; no vector was sent", {"vectors_sent": 0})
    people = {**fakes, VICTIM: victim}
    attacker = _served_by_fakes(people, roster, shares)
    return reconstruction(synthetic_update(VICTIM), attacker.guess(VICTIM, OTHERS), str(refusals))


def _served_by_fakes(people: dict[int, Participant], roster: bytes, shares: bytes) -> Attacker:
    """The rest of the round for a victim that took the server's fakes for its peers."""
    sent = {m: people[m].share(roster) for m in OTHERS} | {VICTIM: shares}
    sealed = {m: decode_shares(T, m, data).sealed for m, data in sent.items()}
    inboxes = {
        m: encode_inbox(
            T, Inbox(MEMBERS, {p: boxes[m] for p, boxes in sealed.items() if m in boxes})
        )
        for m in MEMBERS
    }
    vector = PrivityRound().vector(VICTIM)
    masked = people[VICTIM].mask(inboxes[VICTIM], vector, BINDING)
    publics = {m: advert.mask_public for m, advert in decode_roster(T, roster).items()}
    attacker = Attacker(TERMS, publics, {VICTIM: masked})
    for fake in OTHERS:
        attacker.joined_by(fake, people[fake], inboxes[fake])
    return attacker


def replayed_keys() -> AttackOutcome:
    """Adverts and messages of another round; the server even knows the keys of that round."""
    earlier, run = PrivityRound(EARLIER).until(LEGS), PrivityRound().until(LEGS)
    other_adapter = PrivityRound(binding=lambda _: b"\1" * len(BINDING)).until(LEGS)
    refusals = RefusalsSeen()
    _replay_adverts(earlier, refusals)
    for other in (earlier, other_adapter):
        _replay_messages(other, run, refusals)
    attacker = Attacker.of(run, ())
    attacker.privates = {m: private for m, private in earlier.privates.items() if m != VICTIM}
    attacker.seeds[VICTIM] = run.seeds[VICTIM]
    return reconstruction(synthetic_update(VICTIM), attacker.guess(VICTIM, OTHERS), str(refusals))


def _replay_adverts(earlier: PrivityRound, refusals: RefusalsSeen) -> None:
    """The peers' adverts of the earlier round beside the victim's of this one."""
    victim = member(TERMS, VICTIM)
    own = decode_advert(T, VICTIM, victim.advertise())
    old = decode_roster(EARLIER.digest(), earlier.messages(1)[VICTIM])
    refusals.ask(victim.share, encode_roster(T, old | {VICTIM: own}))


def _replay_messages(other: PrivityRound, run: PrivityRound, refusals: RefusalsSeen) -> None:
    """Each of the server's four messages of the other round, where this round expects its own."""
    for leg in range(1, LEGS):
        victim, message = run.victim_before(leg), other.messages(leg)[VICTIM]
        if leg == MASK:
            refusals.ask(victim.mask, message, run.vector(VICTIM), BINDING)
        else:
            refusals.ask({1: victim.share, 3: victim.confirm, 4: victim.reveal}[leg], message)
