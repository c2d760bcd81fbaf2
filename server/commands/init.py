"""`init DIR`: keys, certificates and settings of a new federation."""

from __future__ import annotations

import argparse
from pathlib import Path
from shlex import quote
from typing import Any


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
    from server.place import create

    place = create(Path(options.folder), name=options.name, names=options.host, port=options.port)
    print(f"The federation {options.name!r} is in {place.folder}.")  # noqa: T201
    print(f"Settings: {place.settings_file}. Keep keys/ to yourself, with a copy.")  # noqa: T201
    if not options.host:
        print("Only this machine can join: name others' way here with --host.")  # noqa: T201
    print(f"Next: privity-server up --dir {quote(options.folder)}")  # noqa: T201
    return 0
