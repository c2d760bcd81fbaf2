"""The Flower `ServerApp`: settings in, rounds until done, every outcome on disk."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.backbone import adapter_plans
from common.config import Settings, from_mapping
from common.places import authority, run_folder, run_name
from server.cohort import Cohort, poisson_sample, simulated_losses, wait_for_nodes
from server.registry import Registry, RoundEntry
from server.rounds import run_round
from server.terms import check_reachable

log = logging.getLogger("privity.server")
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds that are left, from the last one that finished."""
    settings = from_mapping(context.run_config)
    check_reachable(settings)
    folder = run_folder(settings, context.run_id)
    registry = Registry(folder / "server", adapter_plans(settings)[0])
    nodes = wait_for_nodes(grid, settings.users)
    for number in range(len(registry.rounds()) + 1, settings.rounds + 1):
        entry = _round(grid, settings, registry, nodes, folder, number)
        log.info(
            "round %d of %d: %s, %d of %d devices, %.1f s",
            number, settings.rounds, entry.status, entry.survivors, entry.cohort, entry.seconds,
        )  # fmt: skip


def _round(
    grid: Grid,
    settings: Settings,
    registry: Registry,
    nodes: list[int],
    folder: Path,
    number: int,
) -> RoundEntry:
    attempt = registry.open_attempt(number)
    drawn = poisson_sample(nodes, settings.cohort_rate, settings.seed, number, attempt)
    lost = simulated_losses(settings.dropout, settings.seed, number, attempt, nodes)
    cohort = Cohort(grid, drawn, str(number), settings.deadline_s, lost)
    name, trusted = run_name(folder), authority(folder)
    entry = run_round(cohort, registry, settings, trusted, name, number, attempt)
    for reason, count in sorted(Counter(cohort.refused.values()).items()):
        log.warning("round %d: %d devices refused: %s", number, count, reason)
    return entry
