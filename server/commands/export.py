"""`export VERSION DIR`: an adapter for use elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from common.console.say import say
from server.commands import place_of, registry_of, with_folder


def add(commands: Any) -> None:
    """Put it on the command line."""
    parser = with_folder(commands.add_parser("export", help="write an adapter in PEFT's format"))
    parser.add_argument(
        "version", help="a round's number, a digest's beginning, or `latest`, from `adapters`"
    )
    parser.add_argument("target", metavar="FOLDER", help="a folder that does not exist yet")
    parser.set_defaults(action=_act)


def _act(options: argparse.Namespace) -> int:
    from server.registry.versions import export, find_version

    place = place_of(options)
    find_version(place.federation / "server", options.version)
    target = Path(options.target)
    number = export(place.federation, registry_of(place), options.version, target)
    say(f"The adapter of round {number} is in {target}.")
    return 0
