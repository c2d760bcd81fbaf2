"""Times as files have them, in the one form of a record: ISO 8601 in UTC, which sorts as text."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

ORDERS = ("dmy", "mdy", "ymd")


def from_epoch(seconds: Any) -> str | None:
    """Of seconds since 1970, also as text; None where that is no time."""
    try:
        return datetime.fromtimestamp(float(seconds), UTC).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def from_iso(text: Any) -> str | None:
    """Of ISO 8601, and of `2026-01-31 10:00:00 +0100`; None where that is no time."""
    if not isinstance(text, str):
        return None
    spelled = text.strip()
    if len(spelled) > 6 and spelled[-6] == " " and spelled[-5] in "+-":
        spelled = spelled[:-6] + spelled[-5:]
    try:
        return _utc(datetime.fromisoformat(spelled))
    except (ValueError, OverflowError):
        return None


def from_parts(
    date: tuple[int, int, int], order: str, hour: int = 0, minute: int = 0, second: int = 0
) -> str | None:
    """Of a local time, by this machine's zone; None where there is no such date.

    Args:
        date: The three numbers as they stand.
        order: Which is which, as in `ORDERS`; a year of two digits is one since 1970.
    """
    named = dict(zip(order, date, strict=True))
    year = named["y"] if named["y"] > 99 else named["y"] + (2000 if named["y"] < 70 else 1900)
    try:
        return _utc(datetime(year, named["m"], named["d"], hour, minute, second).astimezone())
    except (ValueError, OverflowError, OSError):
        return None


def possible_orders(dates: Iterable[tuple[int, int, int]]) -> list[str]:
    """The orders that all of these dates allow and, of these, that keep them in order of time.

    A file that is written as time goes by is in order: with days and months exchanged it is not.
    """
    allowed = list(ORDERS)
    last: dict[str, tuple[int, int, int]] = {}
    back = dict.fromkeys(ORDERS, 0)
    for date in dates:
        for order in list(allowed):
            named = dict(zip(order, date, strict=True))
            fits = 1 <= named["m"] <= 12 and 1 <= named["d"] <= 31
            if not fits or (order == "ymd") != (date[0] > 31 or (date[0] > 99)):
                allowed.remove(order)
                continue
            now = (named["y"], named["m"], named["d"])
            back[order] += now < last.get(order, now)
            last[order] = now
    if not allowed:
        return []
    fewest = min(back[order] for order in allowed)
    return [order for order in allowed if back[order] == fewest]


def _utc(time: datetime) -> str:
    return (time if time.tzinfo else time.astimezone()).astimezone(UTC).isoformat()
