"""`invite`: a code by which one device can join."""

from __future__ import annotations

import argparse
from typing import Any

from common.console.say import say
from server.commands import place_of, with_folder


def add(commands: Any) -> None:
    """Put it on the command line."""
    parser = with_folder(commands.add_parser("invite", help="a code for one device, once"))
    parser.add_argument("--hours", type=float, default=24, help="until it expires (default: 24)")
    parser.add_argument("--count", type=int, default=1, help="how many codes (default: 1)")
    parser.set_defaults(action=_act)


def _act(options: argparse.Namespace) -> int:
    from common.errors import InputError

    place = place_of(options)
    gateway = place.settings().gateway
    if options.count < 1:
        raise InputError(f"--count {options.count} is no number of codes.", "Give 1 or more.")
    if not gateway.port:
        problem = "With [gateway] port = 0 the port is another one at every start."
        raise InputError(problem, "Set one in privity.toml, which devices can come back to.")
    enrolment = place.enrolment()
    host = gateway.names[0] if gateway.names else "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    try:
        for _ in range(options.count):
            code = enrolment.invite(options.hours)
            say(
                f"privity-client join https://{host}:{gateway.port} {code} "
                f"--ca-fingerprint {place.fingerprint()}"
            )
    finally:
        enrolment.close()
    return 0
