"""`report.json` (docs/DESIGN.md, section 6) from what a run left on disk."""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from client.federation.contribution import CLIPPED, COORDINATES, TOKENS
from client.vault.store import Store
from common.learning.backbone import adapter_plans
from common.privacy.evaluation import release
from common.rounds.outcomes import ABANDONED, DONE
from common.rounds.round_terms import failures, graph_for
from common.settings import MIN_COHORT, Settings, SumSettings
from common.tasks import counts as tables
from common.tasks import task_of
from server.registry.registry import Registry, RoundEntry, evaluations
from simulations.arms import ARMS, PersonResult

PAIRS = (("shared", "base"), ("personal", "shared"), ("personal", "local"))
POOLED = ("shared", "pooled")  # besides, where it was asked for
PLACES = ("out",)


def nothing_learnt(log: Sequence[Mapping[str, Any]]) -> str:
    """The reason of the last round where every round was abandoned, in a sentence; else nothing."""
    if not log or any(entry["status"] != ABANDONED for entry in log):
        return ""
    many = "The one round was" if len(log) == 1 else f"All {len(log)} rounds were"
    return f"{many} abandoned: {log[-1]['why']} Nothing was learnt together."


def build_report(
    settings: Settings,
    run: Path,
    rounds: Sequence[RoundEntry],
    results: Sequence[PersonResult],
    seconds: float,
) -> dict[str, Any]:
    """The whole report as plain JSON types."""
    people = [result.entry for result in results]
    more = settings.simulation.pooled
    arms, pairs = [*ARMS, *["pooled"] * more], [*PAIRS, *[POOLED] * more]
    primary = task_of(settings.task).primary
    return {
        "scenario": "folder" if settings.simulation.data else settings.simulation.scenario,
        "task": settings.task.name,
        "model": settings.model.name,
        "engine": settings.simulation.engine,
        "seed": settings.rounds.seed,
        "users": len(people),
        "rounds": settings.rounds.count,
        "sharing": settings.adapter.sharing,
        "version": version("privity"),
        "settings": {k: v for k, v in settings.to_dict().items() if k not in PLACES},
        "metrics": {arm: _means([person[arm] for person in people]) for arm in arms},
        "intervals": {f"{a}_vs_{b}": paired_interval(people, a, b, primary.name) for a, b in pairs},
        **_tables(results, arms),
        "metric_names": {"primary": primary.name, "better": primary.better},
        "per_user": people,
        "privacy": _privacy(settings, run, people),
        "secure_aggregation": _secure_aggregation(settings.sum, run, rounds),
        "rounds_log": [asdict(entry) for entry in rounds],
        "evaluations": [one.to_dict() for one in evaluations(run / "server")],
        "timing": _timing(run, results, seconds),
    }


def _tables(results: Sequence[PersonResult], arms: Sequence[str]) -> dict[str, Any]:
    """Over all people, what was found of each kind; nothing where the task has no tables."""
    counts = {arm: tables.added(result.counts[arm] for result in results) for arm in arms}
    if not any(counts.values()):
        return {}
    return {
        "tables": {
            arm: {name: [asdict(row) for row in tables.rows(kinds)] for name, kinds in of.items()}
            for arm, of in counts.items()
        }
    }


def paired_interval(
    people: Sequence[dict[str, Any]], arm: str, other: str, metric: str
) -> list[float] | None:
    """95 % Student interval of the mean over people of metric(arm) − metric(other).

    None with fewer than two people.
    """
    differences = np.array([person[arm][metric] - person[other][metric] for person in people])
    if len(differences) < 2:
        return None
    from scipy.stats import t

    half = t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / len(differences) ** 0.5
    middle = float(differences.mean())
    return [middle - float(half), middle + float(half)]


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: mean(row[name] for row in rows) for name in rows[0]}


def _privacy(settings: Settings, run: Path, people: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "record": _record_level(settings, people) if settings.record.dp else None,
        "user": _user_level(settings, run, people) if settings.user.epsilon else None,
    }


def _record_level(settings: Settings, people: Sequence[dict[str, Any]]) -> dict[str, Any]:
    noises = [person["noise_multiplier"] for person in people if person["noise_multiplier"]]
    messages = [person["epsilon_message"] for person in people]
    return {
        "epsilon": max(person["epsilon"] for person in people),
        "epsilon_message": None if None in messages else max(messages),
        "delta": settings.record.delta,
        "noise_multiplier": min(noises) if noises else None,
        "max_grad_norm": settings.record.max_grad_norm,
        "accountant": settings.record.accountant,
        **_evaluation(settings),
    }


def _evaluation(settings: Settings) -> dict[str, Any]:
    """What of ε is the evaluations' own, and how noisy each is in units of R / K."""
    if not settings.evaluation.epsilon:
        return {}
    return {
        "evaluation_epsilon": settings.evaluation.epsilon,
        "evaluation_noise_multiplier": release(settings).noise_multiplier,
    }


def _user_level(settings: Settings, run: Path, people: Sequence[dict[str, Any]]) -> dict[str, Any]:
    rhos = Registry(run / "server", adapter_plans(settings)[0]).user_rhos()
    return {
        "epsilon": max(person["user_epsilon"] for person in people),
        "delta": settings.user.delta,
        "noise_multiplier": (2 * max(rhos)) ** -0.5 if rhos else None,
        "clip_norm": settings.user.clip,
        "mechanism": "distributed discrete Gaussian",
    }


def _secure_aggregation(
    sums: SumSettings, run: Path, rounds: Sequence[RoundEntry]
) -> dict[str, Any]:
    cohort = max((entry.cohort for entry in rounds), default=0)
    done = [entry for entry in rounds if entry.status == DONE]
    clipped, coordinates = _counted(run, CLIPPED), _counted(run, COORDINATES)
    return {
        "enabled": True,
        **_graph(sums, cohort),
        "modulus_bits": sums.modulus_bits,
        "dropped": sum(entry.cohort - entry.survivors for entry in done),
        "upload_bytes_per_client_round": _upload_bytes(run),
        "clipped_share": clipped / coordinates if coordinates else 0.0,
    }


def _graph(sums: SumSettings, cohort: int) -> dict[str, Any]:
    """The graph of the largest cohort; zeros where no round could begin."""
    if cohort < MIN_COHORT:
        return {"threshold": 0, "neighbours": 0}
    graph = graph_for(sums, cohort)
    exposed, abandoned = failures(graph)
    return {
        "cohort": cohort,
        "threshold": graph.threshold,
        "neighbours": graph.neighbours,
        "least_survivors": graph.least,
        "tolerated_corrupt": graph.corrupt,
        "tolerated_colluding_neighbours": graph.colluders,
        "privacy_failure_log2": finite_or_none(exposed),
        "abort_chance_log2": finite_or_none(abandoned),
    }


def finite_or_none(value: float) -> float | None:
    """JSON has no infinities: None for an event that cannot happen."""
    return value if isfinite(value) else None


def _counted(run: Path, key: str) -> int:
    total = 0
    for file in sorted((run / "devices").glob("*.db")):
        store = Store.open(file)
        total += store.counted(key)
        store.close()
    return total


def _upload_bytes(run: Path) -> int:
    """Bytes of all messages of one client in one whole round; the largest there was."""
    totals: dict[tuple[str, int, int], int] = {}
    for number, file in enumerate(sorted((run / "devices").glob("*.db"))):
        store = Store.open(file)
        for upload in store.uploads():
            key = (f"{number}/{upload.run}", upload.round, upload.attempt)
            totals[key] = totals.get(key, 0) + upload.bytes
        store.close()
    return max(totals.values(), default=0)


def _timing(run: Path, results: Sequence[PersonResult], seconds: float) -> dict[str, float]:
    tokens = sum(result.trained_tokens for result in results) + _counted(run, TOKENS)
    peak_kb = max(resource.getrusage(who).ru_maxrss for who in _PROCESSES)
    return {
        "seconds": seconds,
        "train_tokens": tokens,
        "train_tokens_per_second": tokens / seconds,
        "peak_rss_mb": peak_kb / 1024,
    }


_PROCESSES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
