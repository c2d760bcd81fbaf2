"""The rounds in which product and peer are measured: real messages between real state machines."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import TypeAlias

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from common.secagg import Participant, RoundTerms, certify, levels_for, quantize, roster, to_ring
from common.secagg.parameters import choose
from common.settings import Settings

Update: TypeAlias = NDArray[np.float32]

DEFAULTS = Settings()
CORRUPT = 0.05  # of the cohort
DEVIATION = 0.01
SAMPLE = 8  # members that check every signature themselves
DATA = "synthetic: normal, deviation 0.01"
BINDING = bytes(32)
ADVERTISE, SHARE, MASK, CONFIRM, REVEAL = "advertise", "share", "mask", "confirm", "reveal"
LEGS = (ADVERTISE, SHARE, MASK, CONFIRM, REVEAL)


def synthetic_update(dimension: int) -> Update:
    """A vector such as training sends: [dimension], float32."""
    generator = np.random.default_rng(0)
    return generator.standard_normal(dimension, dtype=np.float32) * np.float32(DEVIATION)


def terms_for(members: int, dimension: int, losses: float) -> RoundTerms:
    """Terms with the graph that the product computes, 5 % of the members corrupt."""
    graph = choose(members, corrupt=CORRUPT, losses=losses)
    return RoundTerms(
        run="benchmark",
        round=0,
        attempt=0,
        seed=0,
        dimension=dimension,
        clip=DEFAULTS.sum.update_range,
        bits=DEFAULTS.sum.modulus_bits,
        levels=levels_for(members, DEFAULTS.sum.modulus_bits),
        noise=0.0,
        cohort=graph.cohort,
        least=graph.least,
        corrupt=graph.corrupt,
        neighbours=graph.neighbours,
        threshold=graph.threshold,
        colluders=graph.colluders,
        training=DEFAULTS.digest(),
    )


class Crowd:
    """All members of one round in one process, numbered from 0.

    The first few check every signature themselves, as on a device of their own, and only these
    count for the legs that check many; the others use what was checked before in this process.

    Args:
        terms: With a cohort of exactly these members.
        sample: How many the first few are.
    """

    def __init__(self, terms: RoundTerms, sample: int = SAMPLE) -> None:
        authority = Ed25519PrivateKey.generate()
        self.authority = authority.public_key()
        self._terms, self._sample = terms, sample
        self._devices = {member: Ed25519PrivateKey.generate() for member in range(terms.cohort)}
        self._certificates = {
            member: certify(authority, member, device.public_key())
            for member, device in self._devices.items()
        }
        self._members = {
            member: Participant(terms, member, device, self._certificates[member], self.authority)
            for member, device in self._devices.items()
        }
        self._ring = np.zeros(0, dtype=np.uint32)
        self._seconds: dict[str, list[float]] = {leg: [] for leg in LEGS}

    def authority_key(self) -> bytes:
        """The enrolment authority's public key, raw."""
        return self.authority.public_bytes_raw()

    def leg(self, leg: str, received: Mapping[int, bytes]) -> dict[int, bytes]:
        """What members answer, each to what it received; in the first leg that is nothing."""
        return {member: self._timed(leg, member, data) for member, data in received.items()}

    def seconds(self) -> dict[str, float]:
        """Mean seconds of a member in each leg."""
        return {leg: float(np.mean(times)) for leg, times in self._seconds.items()}

    def saved(self, member: int) -> bytes:
        """A member's whole state."""
        return self._members[member].save()

    def loaded(self, member: int, saved: bytes) -> Participant:
        """The member as it was saved. Repeats reuse its keys, which only a benchmark may do."""
        device, certificate = self._devices[member], self._certificates[member]
        return Participant.load(saved, device, certificate, self.authority)

    def _timed(self, leg: str, member: int, data: bytes) -> bytes:
        who = self._members[member]
        vector = self._vector(member) if leg == MASK else self._ring
        alone = member < self._sample
        if alone:
            _forget_signatures()
        start = perf_counter()
        answer = _answer(who, leg, data, vector)
        seconds = perf_counter() - start
        if alone or leg not in (SHARE, REVEAL):
            self._seconds[leg].append(seconds)
        return answer

    def _vector(self, member: int) -> NDArray[np.uint32]:
        if not self._ring.size:
            self._ring = to_ring(levels_of_update(self._terms), self._terms.bits)
        return np.roll(self._ring, member)


def levels_of_update(terms: RoundTerms) -> NDArray[np.int32]:
    """The integers of member 0; those of member m are the same, turned by m places."""
    return quantize(synthetic_update(terms.dimension), terms.clip, terms.levels)[0]


def _answer(who: Participant, leg: str, data: bytes, vector: NDArray[np.uint32]) -> bytes:
    if leg == ADVERTISE:
        return who.advertise()
    if leg == SHARE:
        return who.share(data)
    if leg == MASK:
        return who.mask(data, vector, BINDING)
    return who.confirm(data) if leg == CONFIRM else who.reveal(data)


def _forget_signatures() -> None:
    roster._open_roster.cache_clear()
    roster.open_confirmations.cache_clear()
