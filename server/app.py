"""The Flower `ServerApp`: settings in, rounds until done, every outcome on disk."""

from __future__ import annotations

import logging
import signal
import threading
import time
from contextlib import nullcontext
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.errors import disk_is_full
from common.learning.backbone import adapter_plans
from common.rounds.outcomes import HELD
from common.rounds.run_folder import authority, kept_log, run_folder, run_name
from common.settings import RoundSettings, from_mapping
from server.registry.goal import last_asked, making_rounds, one_round, read_plan, rounds_done
from server.registry.pricing import require_price
from server.registry.registry import Registry
from server.round.cohort import REGISTRATION_DEADLINE_S, Messenger, wait_for_nodes
from server.round.follower import written
from server.round.hold import on_hold
from server.round.noise_plan import check_reachable
from server.round.one_round import hand_out, run_round
from server.round.setup import Federation

ROOM_LOOK_S = 5.0
log = logging.getLogger("privity.server")
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds that are left, from the last one that finished."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the superexec's children forget theirs
    settings = from_mapping(context.run_config)
    folder = run_folder(settings.simulation, context.run_id)
    with written(folder) if read_plan(folder) else nullcontext(), making_rounds(folder):
        plan = adapter_plans(settings)[0]  # may have to fetch the model first
        check_reachable(settings, plan.dimension)
        require_price(folder / "server", settings)
        federation = Federation(
            settings=settings,
            registry=Registry(folder / "server", plan),
            authority=authority(folder),
            run=run_name(folder),
            online=lambda: sorted(grid.get_node_ids()),
            log=lambda: kept_log(folder),
            last=lambda: _without_pause(settings.rounds, folder),
            messenger=Messenger(
                grid, settings.rounds.deadline_s, again=read_plan(folder) is not None
            ),
        )
        _rounds(federation, grid, folder)


def _rounds(federation: Federation, grid: Grid, folder: Path) -> None:
    """One after another until the last that was asked for, which may change meanwhile.

    A hold is for an operator to end. A simulation has none: it goes on from where it went back to.
    """
    settings, prepared = federation.settings, None
    while (number := rounds_done(folder) + 1) <= last_asked(folder, settings.rounds.count):
        if read_plan(folder) and on_hold(folder):
            return
        begin, asked = time.monotonic(), read_plan(folder)
        if prepared is None:
            patience = None if asked else REGISTRATION_DEADLINE_S
            wait_for_nodes(grid, settings.rounds.users, patience)
        try:
            federation.registry.reserve(number)
            with one_round(folder):
                entry, prepared = run_round(federation, number, prepared)
        except OSError as error:
            if not asked or not disk_is_full(error):
                raise
            prepared = None
            _wait_for_room(federation.registry, number)
            continue
        log.info(
            "round %d of %d: %s, %d of %d devices, %.1f s",
            number,
            settings.rounds.count,
            entry.status,
            entry.survivors,
            entry.cohort,
            entry.seconds,
        )
        if asked and entry.status == HELD:
            prepared = None
        if asked and prepared is None:
            _pause(federation, folder, begin + asked.every_s)


def _pause(federation: Federation, folder: Path, until: float) -> None:
    """Between a round and one that was not set up along with it: devices get what came of it."""

    def more() -> bool:
        last = last_asked(folder, federation.settings.rounds.count)
        return rounds_done(folder) < last and not on_hold(folder)

    def wanted() -> bool:
        return more() and time.monotonic() >= until

    if not wanted():
        log.info("%d devices were handed the newest adapter", hand_out(federation, wanted))
    if more():
        time.sleep(max(0.0, until - time.monotonic()))


def _wait_for_room(registry: Registry, number: int) -> None:
    """Wait until there is room to keep round `number`; nobody is asked meanwhile."""
    log.warning("round %d waits: there is no room on the disk to keep it", number)
    while True:
        time.sleep(ROOM_LOOK_S)
        try:
            return registry.reserve(number)
        except OSError as error:
            if not disk_is_full(error):
                raise


def _without_pause(rounds: RoundSettings, folder: Path) -> int:
    """The last round that may be set up along with the one before it."""
    asked = read_plan(folder)
    if asked and asked.every_s:
        return rounds_done(folder) + 1
    return last_asked(folder, rounds.count)
