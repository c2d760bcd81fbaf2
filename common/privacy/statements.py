"""The two guarantees, each in a sentence; no page and no command tells one without the other."""

from __future__ import annotations

import math
from typing import Any


def record_level(spent: dict[str, Any] | None, where: str = "in this run") -> str:
    """The record-level guarantee."""
    if spent is None:
        return f"record level: no guarantee about single examples {where}"
    return (
        f"record level: ε = {spent['epsilon']:.2f} at δ = {spent['delta']:g} for each example on "
        f"its device{_of_message(spent)}, whoever looks at whatever that device sends"
    )


def _of_message(spent: dict[str, Any]) -> str:
    message = spent.get("epsilon_message")
    return f" ({message:.2f} for one message, which can be in two)" if message else ""


def user_level(spent: dict[str, Any] | None, where: str = "in this run") -> str:
    """The user-level guarantee."""
    if spent is None:
        return f"user level: no guarantee about a person's contribution as a whole {where}"
    return (
        f"user level: ε = {spent['epsilon']:.2f} at δ = {spent['delta']:g} for everything that one "
        "person contributed, in the sums that the server sees"
    )


def odds(epsilon: float) -> str:
    """e^ε: by what factor a result can at most change the odds of a guess about who took part."""
    factor = math.exp(min(epsilon, 700.0))
    if factor < 10:
        return f"{factor:,.2f}"
    return f"{factor:,.0f}" if factor < 1e6 else f"{factor:.1e}"
