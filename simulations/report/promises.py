"""What a run promises: the two guarantees, never one without the other, and the secure sum."""

from __future__ import annotations

from typing import Any

from common.privacy.statements import record_level, user_level
from common.rounds.round_terms import failures
from common.secagg.parameters import Graph


def promises(report: dict[str, Any]) -> list[str]:
    """What a finished run promises: record level, then user level."""
    return [record_level(report["privacy"]["record"]), user_level(report["privacy"]["user"])]


def secure_sum(graph: Graph) -> str:
    """Cohort, holders, threshold, and what is tolerated with which chance of failing."""
    exposed, abandoned = failures(graph)
    return (
        f"Secure sum of {graph.cohort}: {graph.neighbours} hold shares of each device's keys, "
        f"{graph.threshold} rebuild one; tolerates {graph.cohort - graph.least} lost "
        f"({(graph.cohort - graph.least) / graph.cohort:.0%}) and {graph.corrupt} colluding with "
        f"the server ({graph.corrupt / graph.cohort:.0%}); exposure {_chance(exposed)} unless the "
        "server invents devices (sums of repeated attempts can be subtracted); "
        f"a round that loses no more is abandoned by bad luck: {_chance(abandoned)}."
    )


def _chance(log2: float) -> str:
    return "impossible" if log2 == float("-inf") else f"≤ 2^{log2:.0f}"
