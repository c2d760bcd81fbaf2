"""The two guarantees and the secure sum, each in a sentence; never one without the other."""

from __future__ import annotations

from typing import Any

from common.secagg.parameters import Graph
from common.terms import failures


def promises(report: dict[str, Any]) -> list[str]:
    """What a finished run promises: record level, then user level."""
    return [record_level(report["privacy"]["record"]), user_level(report["privacy"]["user"])]


def record_level(spent: dict[str, Any] | None) -> str:
    """The record-level guarantee."""
    if spent is None:
        return "record level: no guarantee about single examples in this run"
    return (
        f"record level: ε = {spent['epsilon']:.2f} at δ = {spent['delta']:g} for each example on "
        "its device, whoever looks at whatever that device sends"
    )


def user_level(spent: dict[str, Any] | None) -> str:
    """The user-level guarantee."""
    if spent is None:
        return "user level: no guarantee about a person's contribution as a whole in this run"
    return (
        f"user level: ε = {spent['epsilon']:.2f} at δ = {spent['delta']:g} for everything that one "
        "person contributed, in the sums that the server sees"
    )


def secure_sum(graph: Graph) -> str:
    """Cohort, holders, threshold, and what is tolerated with which chance of failing."""
    exposed, abandoned = failures(graph)
    return (
        f"Secure sum of {graph.cohort}: {graph.neighbours} hold shares of each device's keys, "
        f"{graph.threshold} rebuild one; tolerates {graph.cohort - graph.least} lost "
        f"({(graph.cohort - graph.least) / graph.cohort:.0%}) and {graph.corrupt} colluding with "
        f"the server ({graph.corrupt / graph.cohort:.0%}); exposure {_chance(exposed)}, "
        f"an abandoned round {_chance(abandoned)}."
    )


def _chance(log2: float) -> str:
    return "impossible" if log2 == float("-inf") else f"≤ 2^{log2:.0f}"
