"""`up`: bring the federation up and keep it up."""

from __future__ import annotations

import argparse
import os
from typing import Any

from common.system.processes import PRIVATE
from server.commands import place_of, with_folder


def add(commands: Any) -> None:
    """Put it on the command line."""
    parser = with_folder(commands.add_parser("up", help="bring the federation up; Ctrl-C ends it"))
    parser.add_argument("--json-logs", action="store_true", help="one JSON object a line")
    parser.set_defaults(action=_act)


def _act(options: argparse.Namespace) -> int:
    from server.deployment.up import up

    os.umask(PRIVATE)
    up(place_of(options), as_json=options.json_logs)
    return 0
