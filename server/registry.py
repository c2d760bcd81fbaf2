"""The run's memory on disk: every published adapter, every round's outcome.

A round has happened exactly when its file `rounds/NNNN.json` exists; it is renamed into place after
the adapter it names, so that a crash at any moment leaves either the whole round or none of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from common.adapter.plan import AdapterPlan
from common.adapter.state import Shared
from common.errors import PrivityError
from server.aggregation import RuleState


@dataclass(frozen=True, slots=True)
class RoundEntry:
    """One round's outcome, as in `report.json`."""

    round: int
    status: str  # "done" or "abandoned"
    cohort: int
    survivors: int
    seconds: float
    adapter_sha256: str


def entries(folder: Path) -> list[RoundEntry]:
    """All finished rounds of the registry in `folder`, in order."""
    files = sorted((folder / "rounds").glob("*.json"))
    return [RoundEntry(**json.loads(file.read_text())) for file in files]


class Registry:
    """The registry in `folder`, created if needed."""

    def __init__(self, folder: Path, plan: AdapterPlan) -> None:
        self._folder, self.plan = folder, plan
        for part in ("rounds", "adapters", "attempts"):
            (folder / part).mkdir(parents=True, exist_ok=True)

    def rounds(self) -> list[RoundEntry]:
        """All finished rounds, in order."""
        return entries(self._folder)

    def latest(self) -> tuple[Shared, RuleState]:
        """The newest published adapter and the rule's state; the published start before any."""
        done = [entry for entry in self.rounds() if entry.status == "done"]
        if not done:
            start = Shared(self.plan, self.plan.initial(self.plan.sent))
            return start, RuleState.fresh(self.plan.dimension)
        return self._load(done[-1])

    def open_attempt(self, number: int) -> int:
        """Note that round `number` starts; how many earlier starts it had."""
        attempt = len(list((self._folder / "attempts").glob(f"{number:04d}-*")))
        (self._folder / "attempts" / f"{number:04d}-{attempt}").touch()
        return attempt

    def note_rho(self, number: int, attempt: int, rho: float) -> None:
        """Note what an attempt costs its members at user level (zCDP ρ), before they are asked."""
        (self._folder / "attempts" / f"{number:04d}-{attempt}").write_text(repr(rho))

    def user_rhos(self) -> list[float]:
        """ρ of every attempt that members may have been charged for, in order of rounds."""
        noted = [file.read_text() for file in sorted((self._folder / "attempts").iterdir())]
        return [float(rho) for rho in noted if rho]

    def publish(self, entry: RoundEntry, shared: Shared, state: RuleState) -> None:
        """Keep a finished round and the adapter it led to."""

        def save(path: Path) -> None:
            with path.open("wb") as stream:
                np.savez(stream, vector=shared.vector, **asdict(state))
                _sync(stream.fileno())

        _into_place(self._adapter(entry.round), save)
        self._finish(entry)

    def abandon(self, entry: RoundEntry) -> None:
        """Keep an abandoned round."""
        self._finish(entry)

    def _finish(self, entry: RoundEntry) -> None:
        def save(path: Path) -> None:
            with path.open("w") as stream:
                json.dump(asdict(entry), stream)
                stream.flush()
                _sync(stream.fileno())

        _into_place(self._folder / "rounds" / f"{entry.round:04d}.json", save)

    def _load(self, entry: RoundEntry) -> tuple[Shared, RuleState]:
        with np.load(self._adapter(entry.round), allow_pickle=False) as stored:
            shared = Shared(self.plan, stored["vector"])
            state = RuleState(int(stored["steps"]), stored["first"], stored["second"])
        if shared.digest() != entry.adapter_sha256:
            raise PrivityError(
                f"The adapter of round {entry.round} is not the one its round published.",
                "The run's folder was changed; start a new run.",
            )
        return shared, state

    def _adapter(self, number: int) -> Path:
        return self._folder / "adapters" / f"{number:04d}.npz"


def _into_place(target: Path, save: Callable[[Path], None]) -> None:
    scratch = target.with_suffix(".partial")
    save(scratch)
    scratch.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        _sync(folder)
    finally:
        os.close(folder)


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)
