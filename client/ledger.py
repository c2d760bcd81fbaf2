"""The ledger: every release that a device ever made, written before anything of it leaves.

Append-only: the database itself refuses to change or delete a row. Each row names the guarantee it
is charged to, the mechanism, and the data it protects; ε is always computed from all rows, so that
it never resets.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from common.errors import ProtocolError
from common.privacy.accountant import Release

RECORD, USER = "record", "user"
UNBOUNDED = float("inf")


@dataclass(frozen=True, slots=True)
class Charge:
    """What one attempt at one round costs under both guarantees.

    Attributes:
        record: The noisy steps; noise 0 where there was none, which makes ε infinite.
        user_rho: zCDP ρ of the person's whole contribution; infinite without user-level noise.
        data: Digest of the training set that the release is about.
    """

    run: str
    round: int
    attempt: int
    record: Release
    user_rho: float
    data: str


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
                second, differently masked update for it. Or when the run was begun on other data.
        """
        self._require_same_data(charge)
        record = charge.record
        mechanisms = (
            (RECORD, record.noise_multiplier, record.sample_rate, record.steps, None),
            (USER, None, None, None, charge.user_rho),
        )
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for mechanism in mechanisms:
                self._append(charge, mechanism)
        except sqlite3.IntegrityError:
            self._db.execute("ROLLBACK")
            named = f"round {charge.round}, attempt {charge.attempt}"
            raise ProtocolError(f"{named} was charged already.") from None
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _append(self, charge: Charge, mechanism: Sequence[object]) -> None:
        place = (charge.run, charge.round, charge.attempt)
        mark = (charge.data, version("privity"), int(self._clock()))
        self._db.execute(
            "INSERT INTO releases (run, round, attempt, guarantee, noise_multiplier, sample_rate,"
            " steps, rho, data, version, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*place, *mechanism, *mark),
        )

    def _require_same_data(self, charge: Charge) -> None:
        query = "SELECT 1 FROM releases WHERE run = ? AND data NOT IN (?, '')"
        if self._db.execute(query, (charge.run, charge.data)).fetchone():
            raise ProtocolError("the data on this device changed since the run was begun.")

    def releases(self) -> list[Release]:
        """All releases ever charged at record level, in order."""
        rows = self._db.execute(
            "SELECT noise_multiplier, sample_rate, steps FROM releases"
            " WHERE guarantee = ? ORDER BY id",
            (RECORD,),
        )
        return [Release(*row) for row in rows]

    def user_rhos(self) -> list[float]:
        """ρ of all releases ever charged at user level, in order."""
        rows = self._db.execute("SELECT rho FROM releases WHERE guarantee = ? ORDER BY id", (USER,))
        return [row[0] for row in rows]
