"""`privity-server`: a federation of one's own, from its keys to its rounds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from common.console.command_line import Parser, run_command
from server.commands import (
    adapters,
    devices,
    export,
    init,
    invite,
    revoke,
    rollback,
    run,
    status,
    up,
)

COMMANDS = (init, up, invite, devices, revoke, run, status, adapters, rollback, export)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 our fault, 2 the input's, 130 interrupted."""
    return run_command(_parser, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="privity-server", description="Run a private federation of devices.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
