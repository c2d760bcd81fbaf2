"""`revoke MEMBER`: shut a device out for good."""

from __future__ import annotations

import argparse
from typing import Any

from common.console.say import say
from server.commands import place_of, with_folder


def add(commands: Any) -> None:
    """Put it on the command line."""
    parser = with_folder(commands.add_parser("revoke", help="shut a device out for good"))
    parser.add_argument("member", type=int, help="as `devices` shows it")
    parser.set_defaults(action=_act)


def _act(options: argparse.Namespace) -> int:
    from server.deployment.superlink import nodes_of

    place = place_of(options)
    enrolment = place.enrolment()
    try:
        enrolment.revoke(options.member, nodes_of(place).unregister)
    finally:
        enrolment.close()
    say(f"Member {options.member} is shut out; its keys are never admitted again.")
    return 0
