"""A device's memory of what it did: ledger, upload journal and state, in its database."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from client.vault.database import prepare, transaction
from client.vault.ledger import Ledger, Spent

# Columns of a release that change neither what it costs nor when it was made.
PLACES = {
    "id", "run", "round", "attempt", "data", "evaluation_data", "version", "epsilon", "delta",
}  # fmt: skip
FORGOTTEN = "restored"  # the run of releases that a restored ledger had forgotten
FEDERATION = "federation"  # JSON: what this device is enrolled in
# What is kept of a round until it is over, each with the round's number: the member's secrets, its
# terms, and what was asked and answered last.
STATE, TERMS, ASKED = OF_ROUNDS = "round/", "terms/", "asked/"


@dataclass(frozen=True, slots=True)
class Upload:
    """One message that left the device.

    Attributes:
        what: Which message: a leg of the round.
        at: Seconds since 1970; 0 where it was not noted. Set by the journal, as is `federation`.
        federation: Name of the federation it went to; empty where there is none.
    """

    run: str
    round: int
    attempt: int
    what: str
    bytes: int
    at: int = field(default=0, compare=False)
    federation: str = ""


class Store:
    """The store in an open database, whose tables it makes or brings up to date.

    Args:
        db: A connection without implicit transactions, to SQLite or SQLCipher.
        name: What an error calls the database.
        lent: The connection belongs to somebody else, who closes it.
        clock: Seconds since 1970.
        ledger: The kind of ledger that it keeps.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        name: str,
        *,
        lent: bool = False,
        clock: Callable[[], float] = time.time,
        ledger: type[Ledger] = Ledger,
    ) -> None:
        self._db, self._lent, self._clock = db, lent, clock
        prepare(db, name)
        self.ledger = ledger(db, clock)

    @classmethod
    def open(cls, path: Path) -> Store:
        """The store in the plain SQLite file at `path`, made if needed. For simulated devices."""
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, isolation_level=None, timeout=30)
        try:
            return cls(db, str(path))
        except BaseException:
            db.close()
            raise

    def close(self) -> None:
        """Close the database, unless it was lent; the store is not used afterwards."""
        if not self._lent:
            self._db.close()

    def together(self) -> AbstractContextManager[None]:
        """What is written within is written at once: all of it or nothing, and one wait for it."""
        return transaction(self._db)

    def now(self) -> int:
        """Seconds since 1970, by this device's clock."""
        return int(self._clock())

    def journal(self, upload: Upload) -> None:
        """Enter a message in the journal of what left the device."""
        upload = replace(upload, at=self.now(), federation=self.federation())
        values = (upload.run, upload.round, upload.attempt, upload.what, upload.bytes)
        with transaction(self._db):
            self._db.execute(
                "INSERT INTO uploads (run, round, attempt, what, bytes, at, federation)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*values, upload.at, upload.federation),
            )

    def journal_other(self, what: str, size: int) -> None:
        """Enter a message that belongs to no round."""
        self.journal(Upload("", 0, 0, what, size))

    def uploads(self) -> list[Upload]:
        """Everything that left the device, in order."""
        rows = self._db.execute(
            "SELECT run, round, attempt, what, bytes, at, federation FROM uploads ORDER BY id"
        )
        return [Upload(*row) for row in rows]

    def federation(self) -> str:
        """The name of the federation that this device is in; empty when it is in none."""
        enrolled = self.get(FEDERATION)
        return "" if enrolled is None else str(json.loads(enrolled)["name"])

    def kinds(self) -> Counter[str]:
        """How many releases were ever charged, by kind: JSON of their cost and their second."""
        columns = [row[1] for row in self._db.execute("PRAGMA table_info(releases)")]
        costly = [name for name in columns if name not in PLACES]
        rows = self._db.execute(f"SELECT {', '.join(costly)} FROM releases")  # noqa: S608
        values = (dict(zip(costly, row, strict=True)) for row in rows)
        known = ({name: one[name] for name in costly if one[name] is not None} for one in values)
        return Counter(json.dumps(one, sort_keys=True) for one in known)

    def charge_again(self, kinds: Counter[str], spent: Mapping[str, Spent | None]) -> None:
        """Enter releases that the ledger has forgotten, in one transaction.

        Args:
            kinds: As `kinds` gives them.
            spent: What the ledger comes to with them, by guarantee.
        """
        with transaction(self._db):
            (last,) = self._db.execute(
                "SELECT COALESCE(MAX(round), 0) FROM releases WHERE run = ?", (FORGOTTEN,)
            ).fetchone()
            for number, kind in enumerate(sorted(kinds.elements()), start=last + 1):
                values = json.loads(kind)
                total = spent.get(values["guarantee"])
                values |= {"run": FORGOTTEN, "round": number, "attempt": 0, "data": ""}
                values |= {"version": version("privity")}
                if total:
                    values |= {"epsilon": total.epsilon, "delta": total.delta}
                marks = ", ".join("?" * len(values))
                self._db.execute(
                    f"INSERT INTO releases ({', '.join(values)}) VALUES ({marks})",  # noqa: S608
                    tuple(values.values()),
                )

    def put(self, key: str, value: bytes) -> None:
        """Keep a blob under a key, replacing what was there."""
        with transaction(self._db):
            self._db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (key, value))

    def get(self, key: str) -> bytes | None:
        """The blob under a key, or None."""
        row = self._db.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def count(self, key: str, more: int) -> None:
        """Add to a number kept under a key; it starts at 0."""
        self.put(key, str(self.counted(key) + more).encode())

    def counted(self, key: str) -> int:
        """The number kept under a key."""
        return int(self.get(key) or b"0")

    def drop(self, key: str) -> None:
        """Forget the blob under a key."""
        with transaction(self._db):
            self._db.execute("DELETE FROM state WHERE key = ?", (key,))

    def keys(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`."""
        rows = self._db.execute(
            "SELECT key FROM state WHERE substr(key, 1, ?) = ?", (len(prefix), prefix)
        )
        return [row[0] for row in rows]
