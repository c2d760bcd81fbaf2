"""A cohort whose devices run the client's own legs over real stores, and a server that lies.

The other members collude with that server: they send zeros without noise, so that a sum shows
exactly what the devices contribute. The server asks for the last round again and again, as after
failures that it makes up, until a device refuses: only the device's ledger can stop it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from client.federation import participation
from client.federation.device import Device, Identity, Randomness
from client.vault.store import Store
from common.adapter.weights import Shared, encode_shared
from common.errors import BudgetExceededError
from common.learning.backbone import adapter_plans
from common.privacy.randomness import Random
from common.rounds.round_terms import round_terms
from common.secagg import Aggregator, Participant, RoundTerms, certify, from_ring
from common.settings import MIN_COHORT, Settings
from common.tasks.task import Example
from simulations.devices import SeededRandomness
from simulations.evidence.audit.system import System, stream


@dataclass(frozen=True, slots=True)
class Person:
    """What one device holds."""

    train: Sequence[Example] = ()
    heldout: Sequence[Example] = ()


class SmallCohort:
    """The smallest that is allowed: a device for each person, colluders for the rest.

    Args:
        system: What the honest devices are made of.
        published: The adapter that every round starts from: whatever the server likes.
        run: Names the run; all randomness comes from it and the seed.
    """

    def __init__(
        self,
        system: System,
        settings: Settings,
        people: Sequence[Person],
        seed: int,
        run: str,
        published: Shared | None = None,
    ) -> None:
        plan = adapter_plans(settings)[0]
        self._system, self.settings = system, settings
        self._run, self._dimension = run, plan.dimension
        self._published = published or Shared(plan, plan.initial(plan.sent))
        self._trusted = _key(stream(seed, f"{run}/authority"))
        self._authority = self._trusted.public_key()
        self._members: dict[int, Member] = {
            number: self._honest(number, people[number - 1], seed)
            if number <= len(people)
            else self._colluder(number, seed)
            for number in range(1, MIN_COHORT + 1)
        }

    def terms(self, number: int, attempt: int, noise: float = 0.0) -> RoundTerms:
        """What the server offers for one attempt at a round, with this noise multiplier."""
        place = (self._run, number, attempt, MIN_COHORT)
        return round_terms(self.settings, self._dimension, *place, noise)

    def sum(self, terms: RoundTerms) -> NDArray[np.int64]:
        """One whole round: what the devices contribute, as the server decodes it: [dimension].

        Raises:
            BudgetExceededError: A device cannot afford the round.
        """
        server, members = Aggregator(terms, self._authority), self._members
        binding = bytes.fromhex(self._published.digest())
        keys = {number: member.advertise(terms) for number, member in members.items()}
        rosters = server.roster(keys)
        shares = {number: member.share(rosters[number]) for number, member in members.items()}
        inboxes = server.inboxes(shares)
        server.bind(binding)
        masked = {n: member.update(inboxes[n], binding) for n, member in members.items()}
        lists = server.survivors(masked)
        signed = {number: member.confirm(lists[number]) for number, member in members.items()}
        asked = server.confirmations(signed)
        revealed = {number: member.reveal(asked[number]) for number, member in members.items()}
        return from_ring(server.unmask(revealed), terms.bits)

    def sums(self, most: int, noise: float = 0.0) -> Iterator[NDArray[np.int64]]:
        """What the server gets by asking until it is refused: every round, then the last again.

        Args:
            most: Rounds and repetitions after which it gives up.
            noise: The noise multiplier that it offers each time.
        """
        for asked in range(1, most + 1):
            number = min(asked, self.settings.rounds.count)
            try:
                yield self.sum(self.terms(number, asked - number, noise))
            except BudgetExceededError:
                return

    def _honest(self, number: int, person: Person, seed: int) -> Member:
        database = sqlite3.connect(":memory:", isolation_level=None)
        return self._member(
            self._device(number, person, seed, database, SeededRandomness(seed, number))
        )

    def _device(
        self,
        number: int,
        person: Person,
        seed: int,
        database: sqlite3.Connection,
        randomness: Randomness,
    ) -> Device:
        return Device(
            number,
            person.train,
            person.heldout,
            Store(database, "memory", ledger=self._system.ledger),
            self._identity(number, seed),
            randomness,
            failed=lambda _: None,  # as a real device, whose failures nobody is told of
            steps=self._system.steps,
        )

    def _member(self, device: Device) -> Member:
        return _Honest(device, self.settings, encode_shared(self._published))

    def _colluder(self, number: int, seed: int) -> Member:
        random = stream(seed, f"{self._run}/{number}/colluder")
        return _Colluder(number, self._identity(number, seed), random)

    def _identity(self, number: int, seed: int) -> Identity:
        key = _key(stream(seed, f"{self._run}/{number}/key"))
        return Identity(key, certify(self._trusted, number, key.public_key()), self._authority)


class Member(Protocol):
    """One member's legs."""

    def advertise(self, terms: RoundTerms) -> bytes:
        """Leg 1."""

    def share(self, roster: bytes) -> bytes:
        """Leg 2."""

    def update(self, inbox: bytes, binding: bytes) -> bytes:
        """Leg 3."""

    def confirm(self, survivors: bytes) -> bytes:
        """Leg 4."""

    def reveal(self, confirmations: bytes) -> bytes:
        """Leg 5."""


class _Honest:
    """A device: each leg is the client's own function."""

    def __init__(self, device: Device, settings: Settings, adapter: bytes) -> None:
        self._device, self._settings, self._adapter = device, settings, adapter
        self._number = 0

    def advertise(self, terms: RoundTerms) -> bytes:
        self._number = terms.round
        return participation.advertise(self._device, self._settings, terms.encode())

    def share(self, roster: bytes) -> bytes:
        return participation.share(self._device, self._number, roster)

    def update(self, inbox: bytes, _binding: bytes) -> bytes:
        return participation.update(
            self._device, self._settings, self._number, inbox, self._adapter
        )

    def confirm(self, survivors: bytes) -> bytes:
        return participation.confirm(self._device, self._number, survivors)

    def reveal(self, confirmations: bytes) -> bytes:
        return participation.reveal(self._device, self._number, confirmations)


class _Colluder:
    """A member that follows the protocol of the sum and adds nothing to it."""

    def __init__(self, member: int, identity: Identity, random: Random) -> None:
        self._member, self._identity, self._random = member, identity, random

    def advertise(self, terms: RoundTerms) -> bytes:
        who = self._identity
        self._zeros = np.zeros(terms.dimension, dtype=np.uint32)
        self._round = Participant(
            terms, self._member, who.key, who.certificate, who.authority, self._random,
            floor=participation.FLOOR,
        )  # fmt: skip
        return self._round.advertise()

    def share(self, roster: bytes) -> bytes:
        return self._round.share(roster)

    def update(self, inbox: bytes, binding: bytes) -> bytes:
        return self._round.mask(inbox, self._zeros, binding)

    def confirm(self, survivors: bytes) -> bytes:
        return self._round.confirm(survivors)

    def reveal(self, confirmations: bytes) -> bytes:
        return self._round.reveal(confirmations)


def _key(random: Random) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(random(32))
