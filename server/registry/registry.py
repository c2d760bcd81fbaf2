"""The run's memory on disk: every published adapter, every round's outcome, every rollback.

A round has happened exactly when its file `rounds/NNNN.json` exists; it is renamed into place after
the adapter, the provenance and the evaluation that go with it, so that a crash at any moment leaves
either the whole round or none of it. A rollback is one such file, `rollbacks/NNNN-KKKK.json`, the
K-th after round N. It is no round and takes no number: rounds are counted by their own files alone.
A round that was abandoned before anybody was charged has not happened: its file is
`uncharged/NNNN-KKKK.json`, and its number is tried again.
A round that finds its version worse than the one before publishes nothing and goes back by itself:
its outcome is `held` and names the adapter that the next round starts from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np

from common.adapter.plan import AdapterPlan, Vector
from common.adapter.weights import Shared
from common.errors import InputError, PrivityError
from common.rounds.outcomes import ABANDONED, DONE
from common.settings import Settings
from common.system.files import release, reserve, write, write_reserved
from server.registry.evaluations import Evaluation, note, read
from server.registry.pricing import note_price
from server.registry.provenance import (
    Provenance,
    Spending,
    read_provenance,
    read_spending,
    software,
    utc_now,
)

SPARE_BYTES = 64 * 1024  # kept free beside an adapter's numbers, for the notes that go with it
UNCHARGED = "uncharged"
START = 0  # the version before any round: the published start


@dataclass(frozen=True, slots=True)
class RuleState:
    """FedAdam's moments, both [dimension]; zeros for FedAvg."""

    steps: int
    first: Vector
    second: Vector

    @classmethod
    def fresh(cls, dimension: int) -> RuleState:
        """Before any round."""
        zeros = np.zeros(dimension, dtype=np.float32)
        return cls(0, zeros, zeros)


@dataclass(frozen=True, slots=True)
class RoundEntry:
    """One outcome of one round, as in `report.json`.

    Attributes:
        status: One of common/rounds/outcomes.py.
        charged: Whether anybody may have been charged; if not, the same round is tried again.
        why: Why it was abandoned: one sentence or a few.
    """

    round: int
    status: str
    cohort: int
    survivors: int
    seconds: float
    adapter_sha256: str
    charged: bool = True
    why: str = ""


@dataclass(frozen=True, slots=True)
class Rollback:
    """A rollback: from round `after + 1` on, rounds start from what round `to` published.

    Attributes:
        to: A round's number; 0 is the published start.
        made_at: UTC, ISO 8601.
    """

    after: int
    to: int
    adapter_sha256: str
    made_at: str
    software: str


def entries(folder: Path) -> list[RoundEntry]:
    """All finished rounds of the registry in `folder`, in order."""
    return _entries(folder / "rounds")


def history(folder: Path) -> list[RoundEntry]:
    """`entries`, and among them what was abandoned before anybody was charged, as it happened."""
    every = _entries(folder / UNCHARGED) + entries(folder)
    return sorted(every, key=lambda entry: (entry.round, entry.charged))


def _entries(folder: Path) -> list[RoundEntry]:
    return [RoundEntry(**json.loads(file.read_text())) for file in sorted(folder.glob("*.json"))]


def rollbacks(folder: Path) -> list[Rollback]:
    """All rollbacks of the registry in `folder`, in order."""
    files = sorted((folder / "rollbacks").glob("*.json"))
    return [Rollback(**json.loads(file.read_text())) for file in files]


def current(folder: Path) -> int:
    """The version from which the next round starts: a round's number, or 0 for the start."""
    rounds = entries(folder)
    changed = [entry for entry in rounds if entry.status != ABANDONED]
    made, since = rollbacks(folder), changed[-1].round if changed else START
    if made and made[-1].after >= since:
        return made[-1].to
    return _of_digest(changed[-1].adapter_sha256, rounds) if changed else START


def evaluations(folder: Path) -> list[Evaluation]:
    """What the finished rounds of the registry in `folder` found of the versions, in order.

    Raises:
        PrivityError: A note is damaged.
    """
    return read(folder, {entry.round: entry.status for entry in entries(folder)})


def provenances(folder: Path) -> dict[int, Provenance]:
    """Where each published adapter comes from, by round, as far as it was noted.

    Raises:
        PrivityError: A note is damaged.
    """
    published = [entry.round for entry in entries(folder) if entry.status == DONE]
    notes = {one: read_provenance(folder / "adapters" / f"{one:04d}.json") for one in published}
    return {number: note for number, note in notes.items() if note}


def parent(origin: Provenance, rounds: Sequence[RoundEntry]) -> int:
    """The version that an adapter was made from: the round that published it, or 0."""
    return _of_digest(
        origin.parent_sha256, [entry for entry in rounds if entry.round < origin.round]
    )


def _of_digest(digest: str, rounds: Sequence[RoundEntry]) -> int:
    """The last of these rounds that published this adapter; 0: none, it is the start."""
    found = [one.round for one in rounds if one.status == DONE and one.adapter_sha256 == digest]
    return found[-1] if found else START


def spent(folder: Path) -> Spending | None:
    """What members were charged so far, at most; None where that was not noted.

    Raises:
        PrivityError: The note is damaged.
    """
    file = folder / "spent.json"
    return read_spending(file) if file.exists() else None


class Registry:
    """The registry in `folder`, created if needed."""

    def __init__(self, folder: Path, plan: AdapterPlan) -> None:
        self._folder, self.plan = folder, plan
        for part in ("rounds", "adapters", "attempts", "rollbacks", UNCHARGED):
            (folder / part).mkdir(parents=True, exist_ok=True)

    def rounds(self) -> list[RoundEntry]:
        """All finished rounds, in order."""
        return entries(self._folder)

    def latest(self) -> tuple[Shared, RuleState]:
        """What the next round starts from: the newest published adapter, or one rolled back to."""
        return self.version(current(self._folder))

    def lineage(self) -> tuple[int, int]:
        """The version that the next round starts from, and the one that it was made from."""
        version = current(self._folder)
        origin = provenances(self._folder).get(version)
        return version, parent(origin, self.rounds()) if origin else START

    def evaluations(self) -> list[Evaluation]:
        """What finished rounds found of the versions, in order."""
        return evaluations(self._folder)

    def version(self, number: int) -> tuple[Shared, RuleState]:
        """The adapter that round `number` published and the rule's state; 0: the published start.

        Raises:
            InputError: The settings give another shape than it has.
            PrivityError: It was changed.
        """
        if number == START:
            start = Shared(self.plan, self.plan.initial(self.plan.sent))
            return start, RuleState.fresh(self.plan.dimension)
        return self._load(next(entry for entry in self.rounds() if entry.round == number))

    def roll_back(self, number: int) -> Rollback:
        """Let rounds start from version `number` from now on. Nothing is deleted.

        To be called between rounds (`plan.between_rounds`).

        Raises:
            PrivityError: That version was changed.
        """
        shared, done = self.version(number)[0], len(self.rounds())
        entry = Rollback(done, number, shared.digest(), utc_now(), software())
        folder = self._folder / "rollbacks"
        earlier = len(list(folder.glob(f"{done:04d}-*.json")))
        write(folder / f"{done:04d}-{earlier:04d}.json", json.dumps(asdict(entry)))
        return entry

    def open_attempt(self, number: int) -> int:
        """Note that round `number` starts; how many earlier starts it had."""
        attempt = len(list((self._folder / "attempts").glob(f"{number:04d}-*[0-9]")))
        self._attempt(number, attempt).touch()
        return attempt

    def reserve(self, number: int) -> None:
        """Take the room on the disk that publishing round `number` needs, before anybody is asked.

        Members are charged for what they send, so that a round which cannot be kept must not start.
        The room is given back by the round's outcome; taking it again is no error.

        Raises:
            OSError: There is not enough.
        """
        numbers = 3 * 4 * self.plan.dimension  # the vector and the rule's two moments, float32
        reserve(self._adapter(number), numbers + SPARE_BYTES)

    def note_rho(self, number: int, attempt: int, rho: float) -> None:
        """Note that members may be charged for an attempt, before the first is asked to update.

        Args:
            rho: What it costs them at user level (zCDP); infinite without user-level noise.
        """
        write(self._attempt(number, attempt), repr(rho))

    def charged(self, number: int, attempt: int) -> bool:
        """Whether members may have been charged for an attempt."""
        file = self._attempt(number, attempt)
        return file.exists() and file.stat().st_size > 0

    def user_rhos(self) -> list[float]:
        """ρ of every attempt that members may have been charged for, in order of rounds."""
        noted = [file.read_text() for file in sorted((self._folder / "attempts").glob("*[0-9]"))]
        return [float(rho) for rho in noted if rho]

    def note_price(self, settings: Settings) -> None:
        """Note the settings that ε rests on, before anybody is charged under them."""
        note_price(self._folder, settings)

    def note_spent(self, spending: Spending) -> None:
        """Note what members are charged in all with the coming attempt, before they are asked."""
        write(self._folder / "spent.json", json.dumps(spending.to_dict()))

    def publish(
        self,
        entry: RoundEntry,
        shared: Shared,
        state: RuleState,
        parent: str,
        found: Evaluation | None = None,
    ) -> None:
        """Keep a finished round and the adapter it led to.

        Args:
            parent: Digest of the adapter that the round started from.
            found: What the round found of that adapter.
        """

        def save(stream: IO[bytes]) -> None:
            np.savez(stream, vector=shared.vector, **asdict(state))

        write_reserved(self._adapter(entry.round), save)
        origin = Provenance(
            entry.round,
            entry.adapter_sha256,
            parent,
            self.plan.model,
            entry.cohort,
            entry.survivors,
            spent(self._folder) or Spending(None, None),
            utc_now(),
            software(),
        )
        write(self._adapter(entry.round).with_suffix(".json"), origin.to_json())
        note(self._folder, entry.round, found)
        self._finish(entry)

    def hold(self, entry: RoundEntry, found: Evaluation) -> None:
        """Keep a round that publishes nothing because of what it found of its version."""
        release(self._adapter(entry.round))
        note(self._folder, entry.round, found)
        self._finish(entry)

    def abandon(self, entry: RoundEntry) -> None:
        """Keep an abandoned round; it has not happened if nobody was charged for it."""
        release(self._adapter(entry.round))
        if entry.charged:
            self._finish(entry)
            return
        folder = self._folder / UNCHARGED
        earlier = len(list(folder.glob(f"{entry.round:04d}-*.json")))
        write(folder / f"{entry.round:04d}-{earlier:04d}.json", json.dumps(asdict(entry)))

    def _finish(self, entry: RoundEntry) -> None:
        write(self._folder / "rounds" / f"{entry.round:04d}.json", json.dumps(asdict(entry)))

    def _load(self, entry: RoundEntry) -> tuple[Shared, RuleState]:
        with np.load(self._adapter(entry.round), allow_pickle=False) as stored:
            vector = stored["vector"]
            state = RuleState(int(stored["steps"]), stored["first"], stored["second"])
        if vector.shape != (self.plan.dimension,):
            raise InputError(
                f"The adapter of round {entry.round} has {vector.size} numbers, and the settings "
                f"give {self.plan.dimension}.",
                "Set model and adapter again as they were.",
            )
        shared = Shared(self.plan, vector)
        if shared.digest() != entry.adapter_sha256:
            raise PrivityError(
                f"The adapter of round {entry.round} is not the one its round published.",
                "The run's folder was changed; start a new run.",
            )
        return shared, state

    def _attempt(self, number: int, attempt: int) -> Path:
        return self._folder / "attempts" / f"{number:04d}-{attempt}"

    def _adapter(self, number: int) -> Path:
        return self._folder / "adapters" / f"{number:04d}.npz"
