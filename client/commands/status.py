"""`privity-client status`: what is in the vault, what runs, and whether a round would be joined."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from math import inf, isinf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.home import home, open_vault

if TYPE_CHECKING:
    from client.store import Store
    from client.vault import Vault

NOTES = "status.json"  # what the running process says of itself


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("status", help="show what is in the vault and what runs")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """A line for each thing that a person may want to know."""
    from common.visible import visible

    with open_vault(options) as vault:
        for name, value in _lines(vault, home(options)):
            print(f"{visible(name):12}{visible(value)}")  # noqa: T201
    return 0


def _lines(vault: Vault, folder: Path) -> Iterator[tuple[str, str]]:
    from client.policy import KEY, SoFar, decode, reasons_to_decline, unknowns
    from client.surroundings import surroundings

    yield "vault", f"{folder}, opened by {vault.kept}"
    yield "records", _counted(vault.records.counts()) or "none; `privity-client import FILE`"
    yield "federation", _federation(vault.store)
    yield from _process(folder)
    uploads = vault.store.uploads()
    yield "sent", f"{len(uploads)} messages, {sum(upload.bytes for upload in uploads):,} bytes"
    spent = [vault.store.ledger.spent(guarantee) for guarantee in ("record", "user")]
    sums = [inf if total is None else total.epsilon for total in spent]
    yield "spent", f"ε {_number(sums[0])} of an example, ε {_number(sums[1])} of you as a whole"
    policy, now = decode(vault.store.get(KEY)), surroundings()
    reasons = reasons_to_decline(policy, None, now, SoFar(*sums))
    yield "rounds", "declined now: " + " ".join(reasons) if reasons else "would be joined now"
    for sentence in unknowns(policy, now):
        yield "", sentence


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _federation(store: Store) -> str:
    from client.store import FEDERATION

    enrolled = store.get(FEDERATION)
    if enrolled is None:
        return "none"
    known = json.loads(enrolled)
    return f"{known['name']} at {known['url']}, as member {known['member']}"


def _process(folder: Path) -> Iterator[tuple[str, str]]:
    from client.ownership import owner
    from client.vault import LOCK

    running = owner(folder / LOCK)
    if running is None:
        yield "process", "none is running"
        return
    yield "process", f"{running or 'unknown'} is running"
    try:
        notes = json.loads((folder / NOTES).read_bytes())
    except (OSError, ValueError):  # it has not said anything yet
        return
    for name, value in notes.items() if isinstance(notes, dict) else ():
        if name != "pid":
            yield f"  {name}", str(value)


def _number(epsilon: float) -> str:
    return "unbounded" if isinf(epsilon) else f"{epsilon:.2f}"
