"""Where a published adapter comes from: a small file beside its weights.

It can be read without the weights, and goes along with them when the adapter is exported.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common.errors import PrivityError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Guarantee:
    """ε at δ so far of this federation's releases, and the ε beyond which no device goes.

    Attributes:
        epsilon_message: Record level: ε at δ of one message, which can be part of two examples;
            None where it has no bound or an older version of the software wrote this.
    """

    epsilon: float
    delta: float
    budget: float
    epsilon_message: float | None = None


@dataclass(frozen=True, slots=True)
class Spending:
    """What this federation charged members at most; None: no such guarantee in this federation."""

    record: Guarantee | None
    user: Guarantee | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Any) -> Spending:
        """Inverse of `to_dict`.

        Raises:
            ValueError: It is something else.
        """
        if not isinstance(stored, dict) or set(stored) != {"record", "user"}:
            raise ValueError("no spending")
        try:
            both = [Guarantee(**stored[of]) if stored[of] else None for of in ("record", "user")]
        except TypeError:
            raise ValueError("no guarantee") from None
        return cls(*both)


@dataclass(frozen=True, slots=True)
class Provenance:
    """One published adapter.

    Attributes:
        parent_sha256: The version that the round started from.
        spent: What this federation charged members at most, all rounds up to this one.
        published_at: UTC, ISO 8601.
        software: Version of Privity on the server.
    """

    round: int
    adapter_sha256: str
    parent_sha256: str
    model: str
    cohort: int
    survivors: int
    spent: Spending
    published_at: str
    software: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"format": FORMAT, **asdict(self)}

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(self.to_dict(), indent=1)


def utc_now() -> str:
    """This second, as stored."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def software() -> str:
    """The installed version of Privity."""
    return version("privity")


def read_provenance(file: Path) -> Provenance | None:
    """What the file says; None where an older version of the software published without.

    Raises:
        PrivityError: It is not such a file.
    """
    if not file.exists():
        return None
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        names = {one.name for one in fields(Provenance)}
        if not isinstance(stored, dict) or stored.pop("format", None) != FORMAT:
            raise ValueError("another format")
        if set(stored) != names:
            raise ValueError("other keys")
        return Provenance(**stored | {"spent": Spending.from_dict(stored["spent"])})
    except ValueError:
        problem = f"{file} does not say where an adapter comes from."
        raise PrivityError(problem, "The federation's folder was changed, or is newer.") from None


def read_spending(file: Path) -> Spending:
    """What the file says.

    Raises:
        PrivityError: It is not such a file.
    """
    try:
        return Spending.from_dict(json.loads(file.read_text(encoding="utf-8")))
    except ValueError:
        problem = f"{file} does not say what was spent."
        raise PrivityError(problem, "The federation's folder was changed, or is newer.") from None
