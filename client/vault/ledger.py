"""The ledger: every release that a device ever made, written before anything of it leaves.

Append-only: the database itself refuses to change or delete a row. Each row names the guarantee it
is charged to, the mechanism, and the data it protects; ε is always computed from all rows, so that
it never resets.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from client.vault.database import transaction
from common.errors import ProtocolError

if TYPE_CHECKING:
    from common.privacy.accountant import Release

RECORD, USER = "record", "user"
UNBOUNDED = float("inf")


@dataclass(frozen=True, slots=True)
class Spent:
    """ε at δ of all releases up to some moment, under one guarantee."""

    epsilon: float
    delta: float


@dataclass(frozen=True, slots=True)
class Charge:
    """What one attempt at one round costs under both guarantees.

    Attributes:
        record: The noisy steps; noise 0 where there was none, which makes ε infinite.
        user_rho: zCDP ρ of the person's whole contribution; infinite without user-level noise.
        data: Digest of the training set that the release is about.
        record_spent: What the ledger comes to with this release at record level; None: not known.
        user_spent: The same at user level.
        evaluation: The one noisy figure about held-out answers that goes with the update, if any.
        heldout: Digest of the held-out answers that the figure is about.
        count: The noisy number of examples that set the release's window; None where it was exact.
    """

    run: str
    round: int
    attempt: int
    record: Release
    user_rho: float
    data: str
    record_spent: Spent | None = None
    user_spent: Spent | None = None
    evaluation: Release | None = None
    heldout: str = ""
    count: Release | None = None


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One line of the ledger: what was charged when, and what the ledger came to with it.

    Attributes:
        at: Seconds since 1970; 0 where it was not noted.
        spent: As computed when it was charged; None where it was not noted.
    """

    run: str
    round: int
    attempt: int
    guarantee: str
    at: int
    spent: Spent | None


class Ledger:
    """The ledger in an open database whose tables exist.

    Args:
        clock: Seconds since 1970.
    """

    def __init__(self, db: sqlite3.Connection, clock: Callable[[], float] = time.time) -> None:
        self._db, self._clock = db, clock

    def charge(self, charge: Charge) -> None:
        """Enter a release under both guarantees, in one transaction, before anything is sent.

        Raises:
            ProtocolError: When this attempt at this round was charged already: nobody gets a
                second, differently masked update for it.
        """
        record, evaluation = charge.record, charge.evaluation
        figure = (None, "") if evaluation is None else (evaluation.noise_multiplier, charge.heldout)
        count = None if charge.count is None else charge.count.noise_multiplier
        steps = (record.noise_multiplier, record.sample_rate, record.steps)
        mechanisms = (
            (RECORD, *steps, None, *figure, count),
            (USER, None, None, None, charge.user_rho, None, "", None),
        )
        spent = (charge.record_spent, charge.user_spent)
        try:
            with transaction(self._db):
                for mechanism, total in zip(mechanisms, spent, strict=True):
                    self._append(charge, mechanism, total)
        except self._db.IntegrityError:  # the driver's own: SQLite's or SQLCipher's
            raise _charged_already(charge.round, charge.attempt) from None

    def require_new(self, run: str, number: int, attempt: int) -> None:
        """Check that nothing was charged for this attempt at this round.

        Raises:
            ProtocolError: It was, so `charge` would refuse it.
        """
        found = self._db.execute(
            "SELECT 1 FROM releases WHERE run = ? AND round = ? AND attempt = ?",
            (run, number, attempt),
        )
        if found.fetchone():
            raise _charged_already(number, attempt)

    def _append(self, charge: Charge, mechanism: Sequence[object], spent: Spent | None) -> None:
        place = (charge.run, charge.round, charge.attempt)
        mark = (charge.data, version("privity"), int(self._clock()))
        total = (None, None) if spent is None else (spent.epsilon, spent.delta)
        self._db.execute(
            "INSERT INTO releases (run, round, attempt, guarantee, noise_multiplier, sample_rate,"
            " steps, rho, evaluation_noise, evaluation_data, count_noise, data, version, at,"
            " epsilon, delta) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*place, *mechanism, *mark, *total),
        )

    def releases(self) -> list[Release]:
        """All that was ever charged at record level: training, evaluations, then counts."""
        return self.trainings() + self.evaluations() + self.counts()

    def trainings(self) -> list[Release]:
        """The noisy steps of every update ever charged, in order.

        A row without a count is of a version in which one example more or less could change two of
        a training set. That doubles the sensitivity, which is half the noise.
        """
        from common.privacy.accountant import Release

        rows = self._db.execute(
            "SELECT noise_multiplier / CASE WHEN count_noise IS NULL THEN 2 ELSE 1 END,"
            " sample_rate, steps FROM releases"
            " WHERE guarantee = ? ORDER BY id",
            (RECORD,),
        )
        return [Release(*row) for row in rows]

    def evaluations(self) -> list[Release]:
        """Every evaluation ever charged, in order."""
        return self._single("evaluation_noise")

    def counts(self) -> list[Release]:
        """Every noisy number of examples ever charged, in order."""
        return self._single("count_noise")

    def _single(self, column: str) -> list[Release]:
        """The Gaussians whose noise is in a column; none where a row has none."""
        from common.privacy.accountant import Release

        query = f"SELECT {column} FROM releases WHERE {column} IS NOT NULL ORDER BY id"  # noqa: S608
        return [Release(noise, 1.0, 1) for (noise,) in self._db.execute(query)]

    def user_rhos(self) -> list[float]:
        """ρ of all releases ever charged at user level, in order."""
        rows = self._db.execute("SELECT rho FROM releases WHERE guarantee = ? ORDER BY id", (USER,))
        return [row[0] for row in rows]

    def entries(self) -> list[LedgerEntry]:
        """Every line, of both guarantees, in order."""
        rows: Iterable[Any] = self._db.execute(
            "SELECT run, round, attempt, guarantee, at, epsilon, delta FROM releases ORDER BY id"
        )
        return [
            LedgerEntry(
                run, number, attempt, guarantee, at, None if total is None else Spent(total, delta)
            )
            for run, number, attempt, guarantee, at, total, delta in rows
        ]

    def spent(self, guarantee: str) -> Spent | None:
        """What the ledger came to with its last line; None where that was not noted.

        Without any line nothing is spent. What an older version noted is reckoned again: it took
        one example for all that can change (`trainings`).
        """
        lines = [entry for entry in self.entries() if entry.guarantee == guarantee]
        noted = lines[-1].spent if lines else Spent(0.0, 0.0)
        if noted and guarantee == RECORD and self._ends_with_old_sets():
            from common.privacy.accountant import epsilon

            return Spent(epsilon(self.releases(), noted.delta), noted.delta)
        return noted

    def _ends_with_old_sets(self) -> bool:
        """Whether the last noisy update is of a version without counts."""
        query = (
            "SELECT count_noise IS NULL AND noise_multiplier > 0 FROM releases"
            " WHERE guarantee = ? ORDER BY id DESC LIMIT 1"
        )
        return bool((self._db.execute(query, (RECORD,)).fetchone() or (0,))[0])


def _charged_already(number: int, attempt: int) -> ProtocolError:
    return ProtocolError(f"round {number}, attempt {attempt} was charged already.")


def _noted(epsilon: float | None, delta: float) -> Spent | None:
    return None if epsilon is None else Spent(epsilon, delta)
