"""A device's own code from the terms to the masked vector, over a real ledger.

Only two things are not the device's: the secure sum is taken in the clear, and what a broken
variant exchanges is exchanged where the device calls it. A mistake in how the device puts its parts
together is therefore audited with them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from client import evaluation, participation
from client.device import Device, Identity
from client.store import Store
from common.adapter.plan import Vector
from common.adapter.state import Shared, encode_shared
from common.backbone import Backbone
from common.config import Settings
from common.randomness import Random
from common.secagg import RoundTerms, dequantize, from_ring
from common.tasks.task import Example
from common.terms import round_terms
from simulations.audit.system import System, stream

COHORT = 3  # the least; at record level nobody else matters


class InTheClear:
    """A member of a secure sum that masks nothing."""

    def __init__(self, terms: RoundTerms, *_: Any, **__: Any) -> None:
        self._terms = terms

    @classmethod
    def load(cls, saved: bytes, *_: Any) -> Self:
        """As `save` left it."""
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
        """As a device asks for it."""
        return stream(self._seed, f"{self._name}/{purpose}")


class OneStream:
    """The same bytes going on, whatever they are for."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def stream(self, _purpose: str) -> Random:
        """As a device asks for it."""
        return self._random


def new_device(randomness: Streams | OneStream, train: Sequence[Example] = ()) -> Device:
    """A device with an empty ledger in memory."""
    key = Ed25519PrivateKey.generate()
    store = Store(sqlite3.connect(":memory:", isolation_level=None), "a store in memory")
    identity = Identity(key, b"", key.public_key())
    return Device(1, train, (), store, identity, randomness, failed=lambda _: None)


@dataclass(frozen=True, slots=True)
class Rounds:
    """Rounds of one device under a system, which the attacker watches."""

    system: System
    device: Device
    backbone: Backbone
    settings: Settings

    def update(self, number: int, published: Shared) -> Vector:
        """Legs 1 to 3 of a round; what leaves, in units of the parameters: [dimension]."""
        device, settings = self.device, self.settings
        terms = round_terms(settings, published.plan.dimension, "audit", number, 0, COHORT)
        with exchanged(self.system, participant=InTheClear, backbone=self.backbone):
            participation.advertise(device, settings, terms.encode())
            participation.share(device, number, b"")
            sent = participation.update(device, settings, number, b"", encode_shared(published))
        levels = from_ring(np.frombuffer(sent, dtype=np.uint32), terms.bits)
        return np.asarray(dequantize(levels, terms.clip, terms.levels), dtype=np.float32)


@contextmanager
def exchanged(
    system: System, participant: type | None = None, backbone: Backbone | None = None
) -> Iterator[None]:
    """The device with the system's parts in place of its own.

    Args:
        participant: In place of the device's part in the secure sum.
        backbone: In place of the one that the settings name.
    """
    parts: dict[str, Any] = {
        "next_release": system.next_release,
        "train_shared": system.train_shared,
        "clip_norm": system.clip_norm,
        "quantize_towards_zero": system.quantize_towards_zero,
        "discrete_gaussian": system.noise_share,
    }
    if system.cost is not None:
        parts["cost_of"] = system.cost
    if participant is not None:
        parts["Participant"] = participant
    if backbone is not None:
        parts["backbone_for"] = lambda _settings: backbone
    with ExitStack() as stack:
        for name, part in parts.items():
            stack.enter_context(_in_place(participation, name, part))
        if backbone is not None:
            stack.enter_context(_in_place(evaluation, "backbone_for", parts["backbone_for"]))
        stack.enter_context(_in_place(evaluation, "gaussian", system.figure_noise))
        for swap in system.swaps:
            broken = swap.made(getattr(swap.place, swap.name))
            stack.enter_context(_in_place(swap.place, swap.name, broken))
        yield


@contextmanager
def _in_place(module: Any, name: str, part: Any) -> Iterator[None]:
    sound = getattr(module, name)
    setattr(module, name, part)
    try:
        yield
    finally:
        setattr(module, name, sound)
