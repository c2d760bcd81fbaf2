"""The Flower `ServerApp`: settings in, rounds until done, every outcome on disk."""

from __future__ import annotations

import logging

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.backbone import adapter_plans
from common.config import from_mapping
from common.places import authority, run_folder, run_name
from server.cohort import Messenger, wait_for_nodes
from server.registry import Registry
from server.rounds import run_round
from server.setup import Federation, Setup
from server.terms import check_reachable

log = logging.getLogger("privity.server")
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds that are left, from the last one that finished."""
    settings = from_mapping(context.run_config)
    plan = adapter_plans(settings)[0]
    check_reachable(settings, plan.dimension)
    folder = run_folder(settings, context.run_id)
    registry = Registry(folder / "server", plan)
    federation = Federation(
        settings=settings,
        registry=registry,
        authority=authority(folder),
        run=run_name(folder),
        nodes=wait_for_nodes(grid, settings.users),
        messenger=Messenger(grid, settings.deadline_s),
    )
    prepared: Setup | None = None
    for number in range(len(registry.rounds()) + 1, settings.rounds + 1):
        entry, prepared = run_round(federation, number, prepared)
        log.info(
            "round %d of %d: %s, %d of %d devices, %.1f s",
            number, settings.rounds, entry.status, entry.survivors, entry.cohort, entry.seconds,
        )  # fmt: skip
