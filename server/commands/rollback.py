"""`rollback VERSION`: let rounds start from an earlier version."""

from __future__ import annotations

import argparse
from typing import Any

from common.console.say import say, say_aside
from common.enrolment.fingerprints import short
from server.commands import place_of, registry_of, with_folder


def add(commands: Any) -> None:
    """Put it on the command line."""
    text = "let rounds start from an earlier adapter"
    parser = with_folder(commands.add_parser("rollback", help=text))
    parser.add_argument(
        "version", help="a round's number (0: the start), or a digest's beginning, from `adapters`"
    )
    parser.set_defaults(action=_act)


def _act(options: argparse.Namespace) -> int:
    from server.registry.versions import find_version, roll_back

    place = place_of(options)
    find_version(place.federation / "server", options.version)
    entry = roll_back(place.federation, registry_of(place), options.version, _waiting)
    say(
        f"From round {entry.after + 1} on, rounds start from version {entry.to} "
        f"({short(entry.adapter_sha256)}). Nothing was deleted."
    )
    return 0


def _waiting() -> None:
    words = "A round is being made; waiting for its end. Ctrl-C to leave all as it is."
    say_aside(words)
