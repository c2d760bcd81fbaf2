"""`adapters`: the published versions, where each comes from, and which one counts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.commands import place_of, with_folder

if TYPE_CHECKING:
    from server.provenance import Guarantee
    from server.registry import RoundEntry

COLUMNS = ("version", "devices", "from", "ε record", "ε user", "published (UTC)", "SHA-256")
DIGITS = 12  # of a digest; 80 columns hold the table


def add(commands: Any) -> None:
    """Put it on the command line."""
    parser = with_folder(commands.add_parser("adapters", help="list the published adapters"))
    parser.add_argument("--json", action="store_true", help="provenance in full, as a JSON list")
    parser.set_defaults(action=_act)


def _act(options: argparse.Namespace) -> int:
    from server.registry import provenances

    folder = place_of(options).federation / "server"
    if options.json:
        known = [one.to_dict() for one in provenances(folder).values()]
        print(json.dumps(known, indent=1))  # noqa: T201
    else:
        _tell(folder)
    return 0


def _tell(folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from server.registry import current, entries, rollbacks

    out, rounds = Console(soft_wrap=True), entries(folder)
    if not rounds:
        out.print("No round was made yet.")
        return
    table = Table(box=None)
    for title in COLUMNS:
        table.add_column(title, no_wrap=True)
    for row in _rows(folder, rounds):
        table.add_row(*row)
    out.print(table)
    for back in rollbacks(folder):
        at = _minute(back.made_at)
        out.print(f"After round {back.after}, at {at}: rolled back to version {back.to}.")
    now = current(folder)
    out.print(f"The next round starts from version {now}{'' if now else ', the start'}.")


def _rows(folder: Path, rounds: list[RoundEntry]) -> list[list[str]]:
    from server.registry import parent, provenances

    known, rows = provenances(folder), []
    for one in rounds:
        if one.status != "done":
            rows.append([str(one.round), one.status])
            continue
        row = [str(one.round), f"{one.survivors} of {one.cohort}"]
        if origin := known.get(one.round):
            spent = origin.spent
            row += [str(parent(origin, rounds)), _shown(spent.record), _shown(spent.user)]
            row += [_minute(origin.published_at)]
        else:
            row += ["?"] * 4
        rows.append([*row, one.adapter_sha256[:DIGITS]])
    return rows


def _shown(spent: Guarantee | None) -> str:
    return f"≤ {spent.epsilon:.2f}" if spent else "none"


def _minute(at: str) -> str:
    return at[:16].replace("T", " ")
