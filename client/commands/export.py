"""`privity-client export`: everything in the vault, in open formats."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.vault.home import open_vault
from common.console.say import say
from common.errors import InputError

if TYPE_CHECKING:
    from client.vault.vault import Vault
    from common.records.records import Record

PRIVATE, PRIVATE_FOLDER = 0o600, 0o700


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "export", help="write everything in the vault into a folder, in open formats, unencrypted"
    )
    parser.add_argument("target", metavar="DIR", type=Path, help="a folder that does not exist yet")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Write the folder whole, or not at all.

    Raises:
        InputError: There is something in it.
    """
    from common.system import files
    from common.visible import visible

    target = options.target.absolute()
    if files.is_taken(target):
        raise InputError(f"{target} is there already.", "Name a folder that does not exist yet.")
    with open_vault(options) as vault, files.new_folder(target, mode=PRIVATE_FOLDER) as folder:
        count = _records(vault, folder / "records.jsonl")
        _notes(vault, folder)
        _adapters(vault, folder)
    say(f"{count:,} records and what goes with them are in {visible(target)}, unencrypted.")
    say("`privity-client import` of its records.jsonl brings them into another vault.")
    return 0


def _records(vault: Vault, file: Path) -> int:
    import os

    from client.learning.progress import bar

    count = 0
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    total = sum(vault.records.counts().values())
    with os.fdopen(descriptor, "w", encoding="utf-8") as lines, bar("Exporting", total) as step:
        for record in vault.records.each():
            lines.write(_line(record))
            count += 1
            step()
    return count


def _line(record: Record) -> str:
    """The record as docs/records.md has it."""
    from common.system import strict_json

    common = {"kind": record.kind, "at": record.at, "split": record.split}
    known = {name: value for name, value in common.items() if value is not None}
    return strict_json.encode(known | record.values) + "\n"


def _notes(vault: Vault, folder: Path) -> None:
    from client.commands.uploads import listing
    from client.federation.policy import KEY, decode
    from common.system import files, strict_json

    policy = decode(vault.store.get(KEY)).encode()
    files.write(folder / "policy.json", policy, mode=PRIVATE)
    files.write(folder / "uploads.json", strict_json.encode(listing(vault.store)), mode=PRIVATE)


def _adapters(vault: Vault, folder: Path) -> None:
    """Both adapters as PEFT has them, where there are any."""
    from client.learning.in_use import SETTINGS

    if vault.store.get(SETTINGS) is None:
        return
    from client.learning.adapters import load
    from common.adapter.peft_io import save_vector
    from common.adapter.weights import whole

    found = load(vault.store)
    if found.personal:
        save_vector(found.personal.plan, found.personal.vector, folder / "adapters" / "personal")
    if found.shared:
        shared = whole(found.shared, found.kept)
        save_vector(found.shared.plan, shared, folder / "adapters" / "shared")
