"""`status`: how far the federation is."""

from __future__ import annotations

import argparse
from typing import Any

from common.console.say import say
from common.rounds.outcomes import ABANDONED
from server.commands import place_of, with_folder

NOT_UP = "not up"


def add(commands: Any) -> None:
    """Put it on the command line."""
    parser = with_folder(commands.add_parser("status", help="how far the federation is"))
    parser.set_defaults(action=_act)


def _act(options: argparse.Namespace) -> int:
    from common.errors import PrivityError
    from server.deployment import figures
    from server.deployment.superlink import Control, flower_place
    from server.registry.goal import last_asked, read_plan, round_under_way, rounds_done
    from server.registry.registry import history
    from server.round.hold import HOW_TO_GO_ON, on_hold

    place = place_of(options)
    settings, done = place.settings().run, rounds_done(place.federation)
    control = Control(flower_place(place))
    try:
        up = f"up; {len(control.online())} devices online"
    except PrivityError:
        up = NOT_UP
    finally:
        control.close()
    asked = read_plan(place.federation)
    wanted = f", {last_asked(place.federation, settings.rounds.count)} asked for" if asked else ""
    busy = "; a round is being made" if round_under_way(place.federation) else ""
    say(f"{place.settings().federation.name}: {up}")
    say(f"rounds: {done} of {settings.rounds.count}{wanted}{busy}")
    waits = figures.read(place.log / figures.ROUNDS).get(figures.WAITS)
    if waits and up != NOT_UP:  # what an `up` that was killed had noted is not true for ever
        say(f"no round is being made: {waits}")
    if (log := history(place.federation / "server")) and log[-1].status == ABANDONED:
        say(f"the last attempt was abandoned: {log[-1].why}")
    if hold := on_hold(place.federation):
        say(f"{hold.why()} {HOW_TO_GO_ON}")
    return 0
