"""`privity-client import`: bring records into the vault."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.vault.home import open_vault
from common.console.say import say

if TYPE_CHECKING:
    from client.vault.vault import Vault
    from common.records.records import Record

CONLL = ".conll"


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("import", help="bring records into the vault")
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        type=Path,
        help="records, JSON lines (docs/records.md), or tagged sentences, CoNLL columns (.conll)",
    )
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Import file by file; each is in the vault with all of its records or not at all."""
    with open_vault(options) as vault:
        for file in options.files:
            _import(vault, file)
    return 0


def _import(vault: Vault, file: Path) -> None:
    from client.learning.progress import bar
    from common.visible import visible

    with bar(f"Reading {file.name}", None):
        records = _records(file)
    with bar(f"Importing {file.name}", len(records)) as step:
        added = vault.records.add(records, file.name, step)
    say(f"{visible(file)}: {added.new} records are new, {added.known} were there already.")


def _records(file: Path) -> list[Record]:
    from common.records import conll
    from common.records.records import read_records

    if file.suffix.lower() == CONLL:
        return [sentence.record for sentence in conll.read(file)]
    return read_records(file)
