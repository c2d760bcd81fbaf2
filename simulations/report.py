"""`report.json` (docs/DESIGN.md, section 6) from what a run left on disk."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from client.participation import TOKENS
from client.store import Store
from common.config import Settings
from common.graph import graph_size
from common.tasks.chat import BETTER, PRIMARY
from server.registry import RoundEntry
from simulations.evaluation import ARMS, PersonResult

PAIRS = (("shared", "base"), ("personal", "shared"), ("personal", "local"))
PLACES = ("out",)


def build_report(
    settings: Settings,
    run: Path,
    rounds: Sequence[RoundEntry],
    results: Sequence[PersonResult],
    seconds: float,
) -> dict[str, Any]:
    """The whole report as plain JSON types."""
    people = [result.entry for result in results]
    return {
        "scenario": "folder" if settings.data else settings.scenario,
        "task": settings.task,
        "model": settings.model,
        "engine": settings.engine,
        "seed": settings.seed,
        "users": len(people),
        "rounds": settings.rounds,
        "sharing": settings.sharing,
        "version": version("privity"),
        "settings": {k: v for k, v in settings.to_dict().items() if k not in PLACES},
        "metrics": {arm: _means([person[arm] for person in people]) for arm in ARMS},
        "intervals": {f"{a}_vs_{b}": paired_interval(people, a, b) for a, b in PAIRS},
        "metric_names": {"primary": PRIMARY, "better": BETTER},
        "per_user": people,
        "privacy": _privacy(settings, people),
        "secure_aggregation": _secure_aggregation(settings, run, rounds),
        "rounds_log": [asdict(entry) for entry in rounds],
        "timing": _timing(run, results, seconds),
    }


def paired_interval(people: Sequence[dict[str, Any]], arm: str, other: str) -> list[float] | None:
    """95 % Student interval of the mean over people of primary(arm) − primary(other).

    None with fewer than two people.
    """
    differences = np.array([person[arm][PRIMARY] - person[other][PRIMARY] for person in people])
    if len(differences) < 2:
        return None
    from scipy.stats import t

    half = t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / len(differences) ** 0.5
    middle = float(differences.mean())
    return [middle - float(half), middle + float(half)]


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: mean(row[name] for row in rows) for name in rows[0]}


def _privacy(settings: Settings, people: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if not settings.dp:
        return {"record": None, "user": None}
    noises = [person["noise_multiplier"] for person in people if person["noise_multiplier"]]
    record = {
        "epsilon": max(person["epsilon"] for person in people),
        "delta": settings.delta,
        "noise_multiplier": min(noises) if noises else None,
        "max_grad_norm": settings.max_grad_norm,
    }
    return {"record": record, "user": None}


def _secure_aggregation(
    settings: Settings, run: Path, rounds: Sequence[RoundEntry]
) -> dict[str, Any]:
    cohort = max((entry.cohort for entry in rounds), default=0)
    neighbours, threshold = graph_size(settings, cohort) if cohort >= 2 else (0, 0)
    done = [entry for entry in rounds if entry.status == "done"]
    return {
        "enabled": True,
        "threshold": threshold,
        "neighbours": neighbours,
        "modulus_bits": settings.modulus_bits,
        "dropped": sum(entry.cohort - entry.survivors for entry in done),
        "upload_bytes_per_client_round": _upload_bytes(run),
    }


def _upload_bytes(run: Path) -> int:
    """Bytes of all five messages of one client in one whole round; the largest there was."""
    totals: dict[tuple[str, int, int], int] = {}
    for number, file in enumerate(sorted((run / "devices").glob("*.db"))):
        store = Store(file)
        for upload in store.uploads():
            key = (f"{number}/{upload.run}", upload.round, upload.attempt)
            totals[key] = totals.get(key, 0) + upload.bytes
        store.close()
    return max(totals.values(), default=0)


def _timing(run: Path, results: Sequence[PersonResult], seconds: float) -> dict[str, float]:
    tokens = sum(result.trained_tokens for result in results)
    for file in sorted((run / "devices").glob("*.db")):
        store = Store(file)
        tokens += int(store.get(TOKENS) or b"0")
        store.close()
    peak_kb = max(resource.getrusage(who).ru_maxrss for who in _PROCESSES)
    return {
        "seconds": seconds,
        "train_tokens": tokens,
        "train_tokens_per_second": tokens / seconds,
        "peak_rss_mb": peak_kb / 1024,
    }


_PROCESSES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
