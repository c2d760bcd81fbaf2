"""Simulated devices: each has its own store file, keys and examples, as a real one would.

Secrets and noise come from the run's seed, so that a run can be repeated; only here.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.federation.device import Device, Identity
from client.vault.store import Store
from common.errors import InputError
from common.privacy.randomness import Random
from common.records.records import Record
from common.rounds.run_folder import authority_key
from common.secagg import certify
from common.settings import RoundSettings, Settings
from common.tasks import labels, task_of
from common.tasks.sets import KEY_BYTES, chosen, divide
from common.tasks.task import Example
from simulations.scenarios import chitchat, folder


class Scenario(Protocol):
    """What a built-in data set's module offers."""

    DESCRIPTION: str
    KINDS: frozenset[str]  # of the records

    def people(
        self, users: int, examples: int, seed: int, fits: Callable[[int, list[Record]], bool]
    ) -> dict[str, list[Record]]:
        """Everybody's records, by user; `fits` says who can be client number so and so."""


SCENARIOS: dict[str, Scenario] = {"chat": chitchat}


AUTHORITY = -1  # whose randomness makes the enrolment authority's key


class SeededRandomness:
    """Repeatable bytes for one simulated device. Never for a real one."""

    def __init__(self, seed: int, user: int) -> None:
        self._key = f"privity/simulated/{seed}/{user}"

    def stream(self, purpose: str) -> Random:
        """SHAKE-256 blocks in counter mode over (seed, user, purpose)."""
        calls = iter(range(2**63))

        def read(size: int) -> bytes:
            label = f"{self._key}/{purpose}/{next(calls)}"
            return hashlib.shake_256(label.encode()).digest(size)

        return read


@lru_cache(maxsize=2)
def people(settings: Settings) -> dict[str, list[Record]]:
    """Everybody's records, in the order of their client numbers.

    Raises:
        InputError: For an unknown scenario, or data that is not there.
    """
    if settings.simulation.data:
        return folder.people(settings.simulation.data, settings.rounds.users, settings.rounds.seed)
    if settings.simulation.scenario not in SCENARIOS:
        problem = f"There is no scenario {settings.simulation.scenario!r}."
        raise InputError(problem, f"`privity-sim scenarios` lists them: {', '.join(SCENARIOS)}.")
    scenario, task = SCENARIOS[settings.simulation.scenario], task_of(settings.task)
    if scenario.KINDS.isdisjoint(task.kinds):
        problem = (
            f"The scenario {settings.simulation.scenario!r} has nothing for --task {task.name}."
        )
        hint = f"Give --data a folder of people with {' or '.join(sorted(task.kinds))} records."
        raise InputError(problem, hint)

    def fits(number: int, records: list[Record]) -> bool:
        return all(
            chosen(
                task.examples(records), _key_of(settings.rounds, number), settings.rounds.examples
            )
        )

    return scenario.people(
        settings.rounds.users, settings.rounds.examples, settings.rounds.seed, fits
    )


def common_labels(settings: Settings) -> str:
    """The labels that at least two people use, as the setting has them; empty without a head.

    Raises:
        InputError: There is no such label, though the task needs one.
    """
    task, everyone = task_of(settings.task), people(settings).values()
    used = Counter(label for records in everyone for label in task.labels_of(records))
    common = labels.joined(sorted(label for label, count in used.items() if count > 1))
    if used and not common:
        problem = f"No label of these people's {task.source} is used by two of them."
        raise InputError(problem, "Learning together needs labels in common.")
    return common


def own_labels(settings: Settings) -> int:
    """How many labels there are that the task of these settings does not learn."""
    task, everyone = task_of(settings.task), people(settings).values()
    used = {label for records in everyone for label in task.labels_of(records)}
    return len(used - set(task.labels))


def unread_kinds(settings: Settings) -> Counter[str]:
    """How many records of kinds that the task does not read there are, by kind."""
    records = (record for person in people(settings).values() for record in person)
    read = task_of(settings.task).kinds
    return Counter(record.kind for record in records if record.kind not in read)


@lru_cache(maxsize=4096)
def everything(settings: Settings, user: str) -> tuple[list[Example], list[Example]]:
    """All of the user's training and held-out examples: what the device holds."""
    return divide(_of(settings, user), _sets_key(settings, user))


def _of(settings: Settings, user: str) -> Sequence[Example]:
    return task_of(settings.task).examples(people(settings)[user])


@lru_cache(maxsize=4096)
def examples(settings: Settings, user: str) -> tuple[list[Example], list[Example]]:
    """The user's training and held-out examples for what is evaluated here and never sent.

    Raises:
        InputError: When there are none of one or the other.
    """
    task = task_of(settings.task)
    train, heldout = chosen(
        _of(settings, user), _sets_key(settings, user), settings.rounds.examples
    )
    if not train or not heldout:
        problem = (
            f"User {user} has {len(train)} training and {len(heldout)} held-out {task.several}."
        )
        hint = (
            f"Each person needs one of both. {task.rule}; "
            '"split": "train" or "heldout" in its record says what it is for.'
        )
        raise InputError(problem, hint)
    return train, heldout


def _sets_key(settings: Settings, user: str) -> bytes:
    """The key for dividing a user's examples, as the user's device makes it."""
    return _key_of(settings.rounds, list(people(settings)).index(user))


def _key_of(rounds: RoundSettings, number: int) -> bytes:
    return SeededRandomness(rounds.seed, number).stream("sets")(KEY_BYTES)


def data_digest(settings: Settings) -> str:
    """SHA-256, hex, of who the people are and what their devices train and evaluate on."""
    digest = hashlib.sha256()
    for user in people(settings):
        for part in everything(settings, user):
            content = [(*example.content, example.at) for example in part]
            digest.update(json.dumps([user, content]).encode())
    return digest.hexdigest()


def open_device(settings: Settings, run: Path, number: int, member: int) -> Device:
    """The device of client `number`, with `member` as its id in this run."""
    user = list(people(settings))[number]
    train, heldout = everything(settings, user)
    randomness = SeededRandomness(settings.rounds.seed, number)
    key = Ed25519PrivateKey.from_private_bytes(randomness.stream("identity")(32))
    trusted = authority_key(run)
    certificate = certify(trusted, member, key.public_key())
    return Device(
        member=member,
        train=train,
        heldout=heldout,
        store=Store.open(run / "devices" / f"{number:05d}.db"),
        identity=Identity(key, certificate, trusted.public_key()),
        randomness=randomness,
    )
