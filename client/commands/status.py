"""`privity-client status`: what is in the vault, what runs, and whether a round would be joined."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from math import isinf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.vault.home import home, open_vault
from common.console.say import say

if TYPE_CHECKING:
    from client.vault.store import Store
    from client.vault.vault import Vault

NOTES = "status.json"  # what the running process says of itself


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("status", help="show what is in the vault and what runs")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """A line for each thing that a person may want to know, or all of it as JSON."""
    from common.visible import visible

    with open_vault(options) as vault:
        found = _found(vault, home(options))
    if options.json:
        say(json.dumps(found))
        return 0
    for name, value in _lines(found):
        say(f"{visible(name):12}{visible(value)}")
    return 0


def _found(vault: Vault, folder: Path) -> dict[str, Any]:
    """What is known now; ε that has no bound is null."""
    from client.federation.policy import KEY, decode, reasons_to_decline, unknowns
    from client.federation.prospects import so_far, standing
    from client.federation.surroundings import surroundings
    from client.learning.in_use import settings_in_use
    from client.vault import watermark

    store, policy, now = vault.store, decode(vault.store.get(KEY)), surroundings()
    spent, uploads = so_far(store.ledger), store.uploads()
    lasting = watermark.reason(vault) + standing(store, policy)
    return {
        "vault": {"folder": str(folder), "opened_by": vault.kept},
        "records": vault.records.counts(),
        "task": settings_in_use(vault.store).task.name,
        "answers": _answers(vault),
        "federation": _federation(store),
        "enrolled": _enrolled(store),
        "process": _process(folder),
        "sent": {"messages": len(uploads), "bytes": sum(upload.bytes for upload in uploads)},
        "spent": {
            "record": None if isinf(spent.record_epsilon) else spent.record_epsilon,
            "user": None if isinf(spent.user_epsilon) else spent.user_epsilon,
        },
        "declined": {
            "always": lasting,
            "now": [one for one in reasons_to_decline(policy, None, now, spent)
                    if one not in lasting],
        },
        "unknown": unknowns(policy, now),
    }  # fmt: skip


def _lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from common.tasks import TASKS

    vault, sent, spent = found["vault"], found["sent"], found["spent"]
    yield "vault", f"{vault['folder']}, opened by {vault['opened_by']}"
    counts = ", ".join(f"{count} {kind}" for kind, count in found["records"].items())
    yield "records", counts or "none; `privity-client import FILE`"
    task, count = TASKS[found["task"]], found["answers"]
    held_out = f"{count:,}, about a fifth of them held out"
    yield task.several, held_out if count else f"none to learn from. {task.rule}."
    if known := found["federation"]:
        yield "federation", f"{known['name']} at {known['url']}, as member {known['member']}"
    else:
        yield "federation", "none"
    if found["enrolled"]:
        yield "enrolled", found["enrolled"]
    yield from _process_lines(found["process"])
    yield "sent", f"{sent['messages']} messages, {sent['bytes']:,} bytes"
    both = _number(spent["record"]), _number(spent["user"])
    yield "spent", f"ε {both[0]} of an example, ε {both[1]} of you as a whole"
    yield "rounds", _rounds(**found["declined"])
    for sentence in found["unknown"]:
        yield "", sentence


def _rounds(always: list[str], now: list[str]) -> str:
    """Whether a round would be joined; a reason that stays comes before one of the moment."""
    if always:
        words = " ".join(always)
        hint = "" if "privity-client" in words else " `privity-client policy` can allow it."
        return f"all declined: {words}{hint}"
    return f"declined now: {' '.join(now)}" if now else "would be joined now, if any are made"


def _answers(vault: Vault) -> int:
    """How many examples there are to learn from or to try it on."""
    from client.learning.in_use import settings_in_use
    from common.tasks import task_of

    task = task_of(settings_in_use(vault.store).task)
    return len(task.examples([record for kind in task.kinds for record in vault.records.all(kind)]))


def _federation(store: Store) -> dict[str, Any] | None:
    from client.vault.store import FEDERATION

    enrolled = store.get(FEDERATION)
    if enrolled is None:
        return None
    known = json.loads(enrolled)
    return {name: known[name] for name in ("name", "url", "member")}


def _enrolled(store: Store) -> str:
    """How many devices are in the federation's log; empty where there is no federation."""
    from client.federation.enrolled import KnownLog
    from client.federation.membership import identity, membership
    from client.vault.store import FEDERATION

    if store.get(FEDERATION) is None:
        return ""
    return KnownLog(store, identity(store).authority).words(membership(store).member)


def _process(folder: Path) -> dict[str, Any] | None:
    """Who takes part, and what it last said of itself; None when nobody does."""
    from client.vault.ownership import owner
    from client.vault.vault import LOCK

    running = owner(folder / LOCK)
    if running is None:
        return None
    try:
        notes = json.loads((folder / NOTES).read_bytes())
    except (OSError, ValueError):  # it has not said anything yet
        notes = None
    known = notes if isinstance(notes, dict) else {}
    return {"pid": running or None, **{name: known[name] for name in known if name != "pid"}}


def _process_lines(found: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    if found is None:
        yield "process", "none is running"
        return
    yield "process", f"{found['pid'] or 'unknown'} is running"
    for name, value in found.items():
        if name != "pid":
            yield f"  {name}", str(value)


def _number(epsilon: float | None) -> str:
    return "unbounded" if epsilon is None else f"{epsilon:.2f}"
