"""A round of Privity's secure aggregation with a server that we control.

Members are `common.secagg.Participant`s. Where the server of an attack behaves, it is the
`Aggregator`; where it lies, it writes messages of its own. No noise is added to the vectors, so
that nothing but the protocol protects them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from functools import lru_cache

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from numpy.typing import NDArray

from common.secagg import (
    Aggregator,
    Floor,
    Participant,
    RoundTerms,
    certify,
    dequantize,
    from_ring,
    levels_for,
    quantize,
    to_ring,
)
from simulations.evidence.attacks.measure import DIMENSION, SPREAD, Guess, Update, synthetic_update

AUTHORITY = Ed25519PrivateKey.generate()
MEMBERS, VICTIM = tuple(range(1, 9)), 1
COLLUDERS = (7, 8)
BITS, CLIP = 24, 5 * SPREAD
BINDING = bytes(32)
LEGS, MASK = 5, 2
DEVICE_FLOOR = Floor()

Random = Callable[[int], bytes]

TERMS = RoundTerms(
    run="attacks",
    round=1,
    attempt=0,
    seed=0,
    dimension=DIMENSION,
    clip=CLIP,
    bits=BITS,
    levels=levels_for(len(MEMBERS), BITS),
    noise=0.0,
    cohort=len(MEMBERS),
    least=6,
    corrupt=len(COLLUDERS),
    neighbours=len(MEMBERS) - 1,
    threshold=5,
    colluders=len(COLLUDERS),
    training="00" * 32,
)


class PrivityRound:
    """Members, and the messages of an ordinary round as far as it has gone.

    The legs are 0 advertise, 1 share, 2 mask, 3 confirm, 4 reveal.

    Args:
        terms: The terms.
        members: Ids.
        kind: What the members are made of, `Participant` or a broken variant of it.
        floor: What the devices ask of a round.
        update: A member's update.
        binding: What a member takes the published adapter's digest to be.
        lost: Member and leg: this message does not arrive.
        random: A member's source of random bytes.

    Attributes:
        sent: For each leg that has run, what the members sent.
        saved: For each leg that has run, the victim's stored state before it.
        privates: Mask private keys, which an attacker has only where the attack says so.
        seeds: Self-mask seeds; the same goes for them.
    """

    def __init__(
        self,
        terms: RoundTerms = TERMS,
        members: Collection[int] = MEMBERS,
        *,
        kind: type[Participant] = Participant,
        floor: Floor = DEVICE_FLOOR,
        update: Callable[[int], Update] = synthetic_update,
        binding: Callable[[int], bytes] = lambda _: BINDING,
        lost: Callable[[int, int], bool] = lambda _member, _leg: False,
        random: Callable[[int], Random] = lambda _: os.urandom,
    ) -> None:
        self.terms = terms
        self.people = {m: member(terms, m, kind, floor, random=random(m)) for m in members}
        self.privates = {m: who._state.mask_private for m, who in self.people.items()}
        self.seeds = {m: who._state.self_seed for m, who in self.people.items()}
        self.server = Aggregator(terms, AUTHORITY.public_key())
        self.server.bind(binding(VICTIM))
        self.sent: list[dict[int, bytes]] = []
        self.saved: list[bytes] = []
        self._update, self._binding, self._lost = update, binding, lost
        self._inbound = [dict.fromkeys(members, b"")]

    def until(self, leg: int) -> PrivityRound:
        """Run all legs before this one."""
        while len(self.sent) < leg:
            inbound = self.messages(len(self.sent))
            self.saved.append(self.people[VICTIM].save())
            self.sent.append({m: self.answer(self.people[m], m, inbound[m]) for m in inbound})
        return self

    def messages(self, leg: int) -> dict[int, bytes]:
        """What the server sends to each member before this leg."""
        self.until(leg)
        if len(self._inbound) <= leg:
            server = self.server
            collect = (server.roster, server.inboxes, server.survivors, server.confirmations)
            self._inbound.append(collect[leg - 1](self._arrived(leg - 1)))
        return self._inbound[leg]

    def total(self) -> Guess:
        """The sum that an honest server takes: [dimension]."""
        self.until(LEGS)
        clear = from_ring(self.server.unmask(self._arrived(LEGS - 1)), self.terms.bits)
        return dequantize(clear, self.terms.clip, self.terms.levels)

    def answer(self, who: Participant, number: int, message: bytes) -> bytes:
        """A member's answer in the leg that its state is in."""
        leg = len(self.sent)
        if leg == MASK:
            return who.mask(message, self.vector(number), self._binding(number))
        return (lambda _: who.advertise(), who.share, bytes, who.confirm, who.reveal)[leg](message)

    def vector(self, number: int) -> NDArray[np.uint32]:
        """The member's update in the ring, without noise."""
        levels, _ = quantize(self._update(number), self.terms.clip, self.terms.levels)
        return to_ring(levels, self.terms.bits)

    def victim_before(self, leg: int) -> Participant:
        """A second copy of the victim, as it was stored before a leg that has run."""
        return Participant.load(self.saved[leg], *papers(VICTIM))

    def _arrived(self, leg: int) -> dict[int, bytes]:
        return {m: data for m, data in self.sent[leg].items() if not self._lost(m, leg)}


def member(
    terms: RoundTerms,
    number: int,
    kind: type[Participant] = Participant,
    floor: Floor = DEVICE_FLOOR,
    authority: Ed25519PrivateKey = AUTHORITY,
    random: Random = os.urandom,
) -> Participant:
    """A member that the authority has enrolled, with the default floor of a device."""
    return kind(terms, number, *papers(number, authority), random, floor)


@lru_cache(maxsize=64)
def papers(
    number: int, authority: Ed25519PrivateKey = AUTHORITY
) -> tuple[Ed25519PrivateKey, bytes, Ed25519PublicKey]:
    """Device key, certificate and the authority's public key."""
    device = Ed25519PrivateKey.generate()
    return device, certify(authority, number, device.public_key()), authority.public_key()
