"""A device's own code from the terms to the masked vector, over a real ledger.

Only two things are not the device's: the secure sum is taken in the clear, and the device is made
with the steps of the system that is audited. A mistake in how the device puts its parts
together is therefore audited with them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from client.federation import participation
from client.federation.device import Device, Identity
from client.vault.store import Store
from common.adapter.plan import Vector
from common.adapter.weights import Shared, encode_shared
from common.privacy.randomness import Random
from common.rounds.round_terms import round_terms
from common.secagg import Participant, RoundTerms, dequantize, from_ring
from common.settings import Settings
from common.tasks.task import Example
from simulations.evidence.audit.system import System, stream

COHORT = 3  # the least; at record level nobody else matters


class InTheClear(Participant):
    """A member of a secure sum that masks nothing."""

    def __init__(self, terms: RoundTerms, *_: Any, **__: Any) -> None:
        self._terms = terms

    @classmethod
    def load(cls, saved: bytes, *_: Any) -> Self:
        """The state that `save` left."""
        return cls(RoundTerms.decode(saved))

    def save(self) -> bytes:
        """The terms are all there is."""
        return self._terms.encode()

    def advertise(self) -> bytes:
        """No keys."""
        return b""

    def share(self, _roster: bytes) -> bytes:
        """No shares."""
        return b""

    def open(self, _inbox: bytes) -> bytes:
        """Nothing to open."""
        return b""

    def mask(self, _inbox: bytes, ring: NDArray[np.uint32], _binding: bytes) -> bytes:
        """What is to be masked."""
        return ring.tobytes()


class Streams:
    """The audit's repeatable bytes, for each purpose of one device."""

    def __init__(self, seed: int, name: str) -> None:
        self._seed, self._name = seed, name

    def stream(self, purpose: str) -> Random:
        """The stream for one purpose, as a device asks for it."""
        return stream(self._seed, f"{self._name}/{purpose}")


class OneStream:
    """One stream of bytes for every purpose."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def stream(self, _purpose: str) -> Random:
        """The stream for one purpose, as a device asks for it."""
        return self._random


def new_device(
    system: System, randomness: Streams | OneStream, train: Sequence[Example] = ()
) -> Device:
    """A device of a system, with an empty ledger in memory."""
    key = Ed25519PrivateKey.generate()
    db = sqlite3.connect(":memory:", isolation_level=None)
    store = Store(db, "a store in memory", ledger=system.ledger)
    identity = Identity(key, b"", key.public_key())
    return Device(
        1, train, (), store, identity, randomness, failed=lambda _: None, steps=system.steps
    )


@dataclass(frozen=True, slots=True)
class Rounds:
    """Rounds of one device, which the attacker watches: its sum is in the clear."""

    device: Device
    settings: Settings

    @classmethod
    def of(cls, device: Device, settings: Settings) -> Rounds:
        """The device, as a member that masks nothing."""
        bare = replace(device.steps, participant=InTheClear)
        return cls(replace(device, steps=bare), settings)

    def update(self, number: int, published: Shared) -> Vector:
        """Legs 1 to 3 of a round; what leaves, in units of the parameters: [dimension]."""
        device, settings = self.device, self.settings
        terms = round_terms(settings, published.plan.dimension, "audit", number, 0, COHORT)
        participation.advertise(device, settings, terms.encode())
        participation.share(device, number, b"")
        sent = participation.update(device, settings, number, b"", encode_shared(published))
        levels = from_ring(np.frombuffer(sent, dtype=np.uint32), terms.bits)
        return np.asarray(dequantize(levels, terms.clip, terms.levels), dtype=np.float32)
