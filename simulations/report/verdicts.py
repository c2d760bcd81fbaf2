"""What a report's paired intervals say, in the words that the terminal and the page both use."""

from __future__ import annotations

from typing import Any

BETTER, WORSE = "better", "worse"
UNCHANGED, UNKNOWN = "no significant change", "too few people to tell"


def verdict_on(report: dict[str, Any], pair: str) -> str:
    """What a 95 % interval says: a change counts only when 0 lies outside."""
    interval = report["intervals"].get(pair)
    if interval is None:
        return UNKNOWN
    low, high = interval
    if not (low > 0 or high < 0):
        return UNCHANGED
    return BETTER if (high < 0) == (report["metric_names"]["better"] == "lower") else WORSE
