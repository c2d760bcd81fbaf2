"""`init DIR`: keys, certificates and settings of a new federation."""

from __future__ import annotations

import argparse
from pathlib import Path
from shlex import quote
from typing import Any

from common.console.say import say


def add(commands: Any) -> None:
    """Put it on the command line."""
    parser = commands.add_parser("init", help="make a federation's folder: keys, settings")
    parser.add_argument("folder", metavar="DIR", help="a folder that does not exist yet")
    parser.add_argument("--name", default="Privity", help="what devices call the federation")
    parser.add_argument(
        "--host", action="append", default=[], metavar="NAME",
        help="host name or address by which devices reach this machine; may be repeated",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=8443, help="public port (default: 8443)")
    parser.set_defaults(action=_act)


def _act(options: argparse.Namespace) -> int:
    from server.deployment.place import create

    place = create(Path(options.folder), name=options.name, names=options.host, port=options.port)
    say(f"The federation {options.name!r} is in {place.folder}.")
    say(f"Settings: {place.settings_file}. Keep keys/ to yourself, with a copy.")
    if not options.host:
        say("Only this machine can join: name others' way here with --host.")
    say(f"Next: privity-server up --dir {quote(options.folder)}")
    return 0
