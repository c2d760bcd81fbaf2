"""A device as seen from outside: what it sent, what its ledger then held, what it drew.

Devices run their own five legs in a real secure sum (`cohort.py`). The ledger is read as the
database's rows, not by the product's own functions. Asked again in another world with the same
randomness, a device adds the same noise, so that the difference is what the records moved.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.federation.device import Device, Randomness
from client.federation.policy import Asked
from common.adapter.plan import Vector
from common.adapter.weights import Shared
from common.errors import PrivityError
from common.privacy.randomness import Random
from common.secagg import RoundTerms
from common.settings import Settings
from simulations.devices import SeededRandomness
from simulations.evidence.audit.small_cohort import Member, Person, SmallCohort
from simulations.evidence.audit.system import System

COUNT = "/count"  # a noisy number of examples decides who is in: the worlds are compared given it
Row = dict[str, Any]
Asks = Sequence[tuple[int, int]]  # rounds and attempts, in the order of a server that likes to ask


@dataclass(frozen=True, slots=True)
class Seen:
    """One attempt.

    Attributes:
        refused: Name of the error; empty where the device answered.
        sent: What the honest devices contribute: [dimension], in levels.
        kept: What stays on the first device and was trained (FedSA's B).
        rows: Ledger rows that the attempt added on the first device.
        drawn: Bytes of randomness that it asked for, by purpose.
        uncharged: Purposes of noise whose bytes it asked for before a row was written; a count
            leaves the device only by what is done with it afterwards.
    """

    number: int
    attempt: int
    terms: RoundTerms
    refused: str
    sent: NDArray[np.int64]
    kept: Vector
    rows: tuple[Row, ...]
    drawn: dict[str, int]
    uncharged: tuple[str, ...]

    @property
    def real(self) -> NDArray[np.float64]:
        """`sent` in units of the parameters."""
        return np.asarray(self.sent * (self.terms.clip / self.terms.levels), np.float64)

    def row(self, guarantee: str) -> Row:
        """The one row of this attempt; empty when there is none."""
        mine = (r for r in self.rows if r["guarantee"] == guarantee)
        return next(mine, {})


class Recorded:
    """Randomness that writes down what is asked of it.

    Args:
        silent: Streams whose purpose contains one of these give zeros: a Gaussian of them is 0.
    """

    def __init__(
        self, sound: Randomness, rows: Callable[[], int], silent: Sequence[str] = ()
    ) -> None:
        self._sound, self._rows, self._silent = sound, rows, silent
        self.drawn: dict[str, int] = {}
        self.rows_before: dict[str, int] = {}

    def stream(self, purpose: str) -> Random:
        """The stream for one purpose, as a device asks for it."""
        sound = self._sound.stream(purpose)
        if any(part in purpose for part in self._silent):
            sound = bytes

        def read(size: int) -> bytes:
            self.rows_before.setdefault(purpose, self._rows())
            self.drawn[purpose] = self.drawn.get(purpose, 0) + size
            return sound(size)

        return read


class Witness(SmallCohort):
    """A cohort whose first device is watched."""

    def __init__(
        self,
        system: System,
        settings: Settings,
        people: Sequence[Person],
        seed: int,
        run: str,
        published: Shared | None = None,
        silent: Sequence[str] = (COUNT,),
    ) -> None:
        self._silent = silent
        self.devices: dict[int, Device] = {}
        self.asked: list[Asked] = []  # what the first device's policy was asked
        self._databases: dict[int, sqlite3.Connection] = {}
        self._recorded: dict[int, Recorded] = {}
        super().__init__(system, settings, people, seed, run, published)

    def ask(self, number: int, attempt: int, noise: float = 0.0) -> Seen:
        """One attempt at a round; a refusal is an answer, too."""
        terms, before, recorded = self.terms(number, attempt, noise), self.rows(), self._recorded[1]
        recorded.drawn, recorded.rows_before = {}, {}
        sent, refused = np.zeros(terms.dimension, dtype=np.int64), ""
        try:
            sent = self.sum(terms)
        except PrivityError as error:
            refused = type(error).__name__
        uncharged = tuple(
            purpose
            for purpose, rows in recorded.rows_before.items()
            if "noise" in purpose and COUNT not in purpose and rows <= len(before)
        )
        rows = tuple(self.rows()[len(before) :])
        return Seen(
            number, attempt, terms, refused, sent, self._kept(), rows, recorded.drawn, uncharged
        )

    def rows(self) -> list[Row]:
        """The first device's ledger, as its database has it."""
        found = self._databases[1].execute("SELECT * FROM releases ORDER BY id")
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found]

    def _kept(self) -> Vector:
        stored = [self.devices[1].store.get(key) for key in self.devices[1].store.keys("kept/")]
        parts = [np.frombuffer(part, dtype="<f4") for part in stored if part]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)

    def _honest(self, number: int, person: Person, seed: int) -> Member:
        database = sqlite3.connect(":memory:", isolation_level=None)
        self._databases[number] = database

        def rows() -> int:
            return int(database.execute("SELECT count(*) FROM releases").fetchone()[0])

        randomness = Recorded(SeededRandomness(seed, number), rows, self._silent)
        self._recorded[number] = randomness
        device = self._device(number, person, seed, database, randomness)
        self.devices[number] = replace(device, consent=self.asked.append) if number == 1 else device
        return self._member(self.devices[number])


def asked(witness: Witness, asks: Asks, noise: float = 0.0) -> list[Seen]:
    """All attempts, in order."""
    return [witness.ask(number, attempt, noise) for number, attempt in asks]


def claimed_noise(row: Row) -> list[tuple[float, float, int]]:
    """Every noisy release that a record-level row names: noise, sampling rate, times.

    The steps are one; each other column of the kind `…_noise` that is not empty is one release.
    """
    others = [(value, 1.0, 1) for name, value in row.items() if name.endswith("_noise") and value]
    if row.get("steps") is None:
        return others
    return [(row["noise_multiplier"], row["sample_rate"], row["steps"]), *others]
