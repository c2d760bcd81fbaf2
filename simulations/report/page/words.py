"""A report's figures in words, numbers with their units."""

from __future__ import annotations

import math
from typing import Any

from common.page.markup import text
from common.rounds.outcomes import DONE
from common.tasks import metric_named
from simulations.report.verdicts import BETTER, WORSE, verdict_on

ARMS = {  # arm: word, mark in the text, mark in the plot, what it is
    "base": ("base", "●", "o", "the model as published"),
    "shared": ("shared", "■", "s", "base + the adapter learnt together"),
    "personal": ("personal", "▲", "^", "shared + an adapter that never leaves the device"),
    "local": ("local", "◆", "D", "base + such an adapter alone, nothing learnt together"),
}
PAIRS = {
    "shared_vs_base": ("shared", "base", "Learning together, against the base model"),
    "personal_vs_shared": ("personal", "shared", "A personal adapter on top, against shared alone"),
    "personal_vs_local": ("personal", "local", "All of it, against learning alone on the device"),
    "shared_vs_pooled": ("shared", "pooled", "Learning together, against all data in one place"),
}
POOLED = {"pooled": ("pooled", "◇", "D", "base + an adapter learnt from all data in one place")}
MEANS = ("micro", "macro", "weighted")  # behind the kinds of a table
PERCENT = "%"
TOLD = ("base", "shared", "personal")


def change(report: dict[str, Any], pair: str) -> str:
    """The verdict, with the relative change of the means where it is significant."""
    verdict = verdict_on(report, pair)
    after, before = (mean_of(report, arm) for arm in PAIRS[pair][:2])
    if verdict not in (BETTER, WORSE) or not before > 0:
        return verdict
    way = "lower" if after < before else "higher"
    return f"{100 * abs(after - before) / before:.0f} % {way}, {verdict}"


def mean_of(report: dict[str, Any], arm: str) -> float:
    """The arm's mean of the primary metric, or NaN."""
    return finite(report["metrics"][arm].get(report["metric_names"]["primary"]))


def meaning(name: str) -> str:
    """What a metric tells, in one sentence; nothing where that is not known."""
    known = metric_named(name)
    return known.meaning if known else ""


def _unit(name: str) -> str:
    known = metric_named(name)
    return known.unit if known else ""


def _is_percent(name: str) -> bool:
    return _unit(name) == PERCENT


def label(name: str) -> str:
    """A metric's name as a person reads it, escaped."""
    known = metric_named(name)
    return text(known.label if known else name.replace("_", " "))


def axis_unit(name: str) -> str:
    """A metric's unit in brackets, or nothing."""
    unit = _unit(name)
    return f" ({text(unit)})" if unit else ""


def shown(name: str, value: Any, *, unit: bool = True) -> str:
    """A metric's value as a person reads it, with its unit where it has one."""
    number = finite(value)
    if math.isnan(number):
        return "–"
    behind = f" {text(_unit(name))}" if unit and _unit(name) else ""
    if _is_percent(name):
        return f"{100 * number:.1f}{behind}"
    decimals = 3 if abs(number) < 10 else 1
    return f"{number:,.{decimals}f}{behind}"


def difference(name: str, value: float) -> str:
    """A difference between two values of a metric, with its sign."""
    if _is_percent(name):
        return f"{100 * value:+.1f} percentage points".replace("-", "−")
    return f"{value:+,.{3 if abs(value) < 1 else 2}f}".replace("-", "−")


def tick(name: str, value: float) -> str:
    """A value of a metric on an axis."""
    return f"{100 * value:g}" if _is_percent(name) else f"{value:,.10g}"


def or_none(value: Any) -> str:
    """Two decimals, or `none`."""
    return "none" if value is None else f"{value:.2f}"


def delta(spent: dict[str, Any]) -> str:
    """δ of a guarantee."""
    chance = spent["delta"]
    return f"{chance:.9f}".rstrip("0") if chance >= 1e-7 else f"{chance:g}"


def upload(report: dict[str, Any]) -> str:
    """What a device sends in a round."""
    return _bytes(report["secure_aggregation"]["upload_bytes_per_client_round"])


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:,.0f} bytes"


def people_in(report: dict[str, Any]) -> str:
    """How many people the report is about."""
    return plural(report["users"], "person", "people")


def plural(number: int, one: str, many: str) -> str:
    """A number and its noun."""
    return f"{number:,} {one if number == 1 else many}"


def finished_in(report: dict[str, Any]) -> int:
    """Rounds that were not abandoned."""
    return sum(entry["status"] == DONE for entry in report["rounds_log"])


def is_number(value: Any) -> bool:
    """Whether it is a number; a boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def finite(value: Any) -> float:
    """The number, or NaN for what is missing or infinite."""
    return float(value) if is_number(value) and math.isfinite(value) else math.nan
