"""`adapters`: the published versions."""

from __future__ import annotations

import argparse
from typing import Any

from server.commands import place_of, with_folder


def add(commands: Any) -> None:
    """Put it on the command line."""
    parser = with_folder(commands.add_parser("adapters", help="list the published adapters"))
    parser.set_defaults(action=_act)


def _act(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from server.registry import entries

    table = Table()
    for title in ("round", "outcome", "devices", "seconds", "adapter (SHA-256)"):
        table.add_column(title, no_wrap=True)
    rounds = entries(place_of(options).federation / "server")
    for one in rounds:
        devices = f"{one.survivors} of {one.cohort}"
        table.add_row(
            str(one.round), one.status, devices, f"{one.seconds:.1f}", one.adapter_sha256[:16]
        )
    Console(soft_wrap=True).print(table if rounds else "No round was made yet.")
    return 0
