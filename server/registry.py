"""The run's memory on disk: every published adapter, every round's outcome, every rollback.

A round has happened exactly when its file `rounds/NNNN.json` exists; it is renamed into place after
the adapter and the provenance it names, so that a crash at any moment leaves either the whole round
or none of it. A rollback is one such file, `rollbacks/NNNN-KKKK.json`, the K-th after round N. It
is no round and takes no number: rounds are counted by their own files alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from common.adapter.plan import AdapterPlan
from common.adapter.state import Shared
from common.errors import InputError, PrivityError
from server.aggregation import RuleState
from server.provenance import (
    Provenance,
    Spending,
    read_provenance,
    read_spending,
    software,
    utc_now,
)

SPARE_BYTES = 64 * 1024  # kept free beside an adapter's numbers, for the notes that go with it
START = 0  # the version before any round: the published start


@dataclass(frozen=True, slots=True)
class RoundEntry:
    """One round's outcome, as in `report.json`."""

    round: int
    status: str  # "done" or "abandoned"
    cohort: int
    survivors: int
    seconds: float
    adapter_sha256: str


@dataclass(frozen=True, slots=True)
class Rollback:
    """From round `after + 1` on, rounds start from what round `to` published.

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
    files = sorted((folder / "rounds").glob("*.json"))
    return [RoundEntry(**json.loads(file.read_text())) for file in files]


def rollbacks(folder: Path) -> list[Rollback]:
    """All rollbacks of the registry in `folder`, in order."""
    files = sorted((folder / "rollbacks").glob("*.json"))
    return [Rollback(**json.loads(file.read_text())) for file in files]


def current(folder: Path) -> int:
    """The version from which the next round starts: a round's number, or 0 for the start."""
    published = [entry.round for entry in entries(folder) if entry.status == "done"]
    last = published[-1] if published else START
    made = rollbacks(folder)
    return made[-1].to if made and made[-1].after >= last else last


def provenances(folder: Path) -> dict[int, Provenance]:
    """Where each published adapter comes from, by round, as far as it was noted.

    Raises:
        PrivityError: A note is damaged.
    """
    published = [entry.round for entry in entries(folder) if entry.status == "done"]
    notes = {one: read_provenance(folder / "adapters" / f"{one:04d}.json") for one in published}
    return {number: note for number, note in notes.items() if note}


def parent(origin: Provenance, rounds: Sequence[RoundEntry]) -> int:
    """The version that an adapter was made from: the round that published it, or 0."""
    earlier = [
        entry.round
        for entry in rounds
        if entry.round < origin.round
        and entry.status == "done"
        and entry.adapter_sha256 == origin.parent_sha256
    ]
    return earlier[-1] if earlier else START


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
        for part in ("rounds", "adapters", "attempts", "rollbacks"):
            (folder / part).mkdir(parents=True, exist_ok=True)

    def rounds(self) -> list[RoundEntry]:
        """All finished rounds, in order."""
        return entries(self._folder)

    def latest(self) -> tuple[Shared, RuleState]:
        """What the next round starts from: the newest published adapter, or one rolled back to."""
        return self.version(current(self._folder))

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
        _write(folder / f"{done:04d}-{earlier:04d}.json", json.dumps(asdict(entry)))
        return entry

    def open_attempt(self, number: int) -> int:
        """Note that round `number` starts; how many earlier starts it had."""
        attempt = len(list((self._folder / "attempts").glob(f"{number:04d}-*")))
        (self._folder / "attempts" / f"{number:04d}-{attempt}").touch()
        return attempt

    def reserve(self, number: int) -> None:
        """Take the room on the disk that publishing round `number` needs, before anybody is asked.

        Members are charged for what they send, so that a round which cannot be kept must not start.
        The room is given back by `publish` and `abandon`; taking it again is no error.

        Raises:
            OSError: There is not enough.
        """
        scratch = _scratch(self._adapter(number))
        bytes_ = 3 * 4 * self.plan.dimension + SPARE_BYTES  # the vector and two moments, float32
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.posix_fallocate(descriptor, 0, bytes_)
        except OSError:
            scratch.unlink()
            raise
        finally:
            os.close(descriptor)

    def note_rho(self, number: int, attempt: int, rho: float) -> None:
        """Note what an attempt costs its members at user level (zCDP ρ), before they are asked.

        Infinite without user-level noise.
        """
        (self._folder / "attempts" / f"{number:04d}-{attempt}").write_text(repr(rho))

    def user_rhos(self) -> list[float]:
        """ρ of every attempt that members may have been charged for, in order of rounds."""
        noted = [file.read_text() for file in sorted((self._folder / "attempts").iterdir())]
        return [float(rho) for rho in noted if rho]

    def note_spent(self, spending: Spending) -> None:
        """Note what members are charged in all with the coming attempt, before they are asked."""
        _write(self._folder / "spent.json", json.dumps(spending.to_dict()))

    def publish(self, entry: RoundEntry, shared: Shared, state: RuleState, parent: str) -> None:
        """Keep a finished round and the adapter it led to.

        Args:
            parent: Digest of the adapter that the round started from.
        """

        def save(path: Path) -> None:
            with path.open("r+b" if path.exists() else "wb") as stream:  # in the room reserved
                np.savez(stream, vector=shared.vector, **asdict(state))
                stream.truncate()
                stream.flush()
                _sync(stream.fileno())

        _into_place(self._adapter(entry.round), save)
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
        _write(self._adapter(entry.round).with_suffix(".json"), origin.to_json())
        self._finish(entry)

    def abandon(self, entry: RoundEntry) -> None:
        """Keep an abandoned round."""
        _scratch(self._adapter(entry.round)).unlink(missing_ok=True)
        self._finish(entry)

    def _finish(self, entry: RoundEntry) -> None:
        _write(self._folder / "rounds" / f"{entry.round:04d}.json", json.dumps(asdict(entry)))

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

    def _adapter(self, number: int) -> Path:
        return self._folder / "adapters" / f"{number:04d}.npz"


def _write(target: Path, content: str) -> None:
    def save(path: Path) -> None:
        with path.open("w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            _sync(stream.fileno())

    _into_place(target, save)


def _scratch(target: Path) -> Path:
    return target.with_suffix(".partial")


def _into_place(target: Path, save: Callable[[Path], None]) -> None:
    scratch = _scratch(target)
    save(scratch)
    scratch.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        _sync(folder)
    finally:
        os.close(folder)


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)
