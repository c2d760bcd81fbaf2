"""`privity-client uploads`: everything that ever left the device, and what it can tell of it."""

from __future__ import annotations

import argparse
from datetime import datetime
from math import isinf
from typing import TYPE_CHECKING, Any

from client.vault.home import open_vault
from common.console.say import say
from common.system import strict_json

if TYPE_CHECKING:
    from client.vault.ledger import LedgerEntry, Spent
    from client.vault.store import Store, Upload

UPDATE = "update"  # the message that the ledger was charged for
AGAIN = " again"  # the same bytes, as an answer to the same question
WORDS = {
    "advertise": "keys for one round",
    "share": "encrypted shares of masks",
    "open": "whose shares do not open",
    UPDATE: "masked update",
    "confirm": "signature on who is in the sum",
    "reveal": "shares of masks",
    "enrol": "invite code and public keys",
    "leave": "the wish to leave",
    "renew": "the wish that the enrolment goes on",
    "refusal": "that a message was refused",
    "adopt": "that an adapter arrived",
}
HEADINGS = ("when", "federation", "run", "round", "what", "bytes", "ε example", "ε person")
NUMBERS = ("round", "bytes", "ε example", "ε person")
Row = dict[str, Any]


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("uploads", help="list everything that ever left this device")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Show the journal beside what the ledger was charged."""
    with open_vault(options) as vault:
        found = listing(vault.store)
    if options.json:
        say(strict_json.encode(found))
        return 0
    from common.console.tables import console, show_table

    out = console()
    if found["uploads"]:
        rows = [_cells(row) for row in found["uploads"]]
        show_table(out, HEADINGS, rows, figures=NUMBERS, bare=True)
    out.print(summary(found))
    return 0


def listing(store: Store) -> Row:
    """The journal and the totals, as plain values; an infinite ε is the word "infinite".

    ε stands beside the update it was charged for, as the ledger came to with it: None for the
    messages that cost nothing, and where it was not noted.
    """
    uploads, entries = store.uploads(), store.ledger.entries()
    charged = {(e.run, e.round, e.attempt, e.guarantee): e for e in entries}
    sent = {(u.run, u.round, u.attempt) for u in uploads if u.what == UPDATE}
    unsent = {(e.run, e.round, e.attempt) for e in entries} - sent
    return {
        "uploads": [_row(upload, charged) for upload in uploads],
        "messages": len(uploads),
        "bytes": sum(upload.bytes for upload in uploads),
        "charged_but_not_sent": len(unsent),
        "record": _spent(record := store.ledger.spent("record")),
        "record_message": _spent(_of_message(store, record)),
        "user": _spent(store.ledger.spent("user")),
    }


def _of_message(store: Store, record: Spent | None) -> Spent | None:
    """What all releases come to for one message, at the δ of the last."""
    if record is None or not record.epsilon:
        return record  # and nothing heavy is loaded to say so
    from client.vault.ledger import Spent
    from common.privacy.accountant import epsilon_of_two

    return Spent(epsilon_of_two(store.ledger.releases(), record.delta), record.delta)


def summary(found: Row) -> str:
    """The totals, in sentences for the person whose device it is."""
    if not found["messages"] and not found["charged_but_not_sent"]:
        return "Nothing has left this device."
    words = [
        f"In all {found['messages']} messages left this device, {found['bytes']:,} bytes. Not"
        " listed: asking for messages and saying that the device is there, which tell its number.",
        "None holds a record of yours or your personal adapter: an update is masked, and only the"
        " sum of many devices' updates can be read.",
        f"What they can tell of any one of your examples is {_bound(found['record'])}.",
        "Of any one message, which can be part of two examples, it is"
        f" {_bound(found['record_message'])}.",
        f"What they can tell of you as a whole is {_bound(found['user'])}.",
    ]
    if found["charged_but_not_sent"]:
        words.append(f"Counted too: {found['charged_but_not_sent']} updates made and never sent.")
    return "\n".join(words)


def _bound(spent: Row | None) -> str:
    if spent is None:
        return "not known: an older version noted no ε"
    if spent["epsilon"] == "infinite":
        return "not bounded by this guarantee"
    numbers = f"ε = {spent['epsilon']:.2f} (δ = {spent['delta']:g})"
    return f"bounded by {numbers}; the smaller, the less"


def _row(upload: Upload, charged: dict[tuple[str, int, int, str], LedgerEntry]) -> Row:
    place = (upload.run, upload.round, upload.attempt)
    lines = {g: charged.get((*place, g)) for g in ("record", "user")}
    costs = {
        f"{guarantee}_epsilon": _number(line.spent) if line and upload.what == UPDATE else None
        for guarantee, line in lines.items()
    }
    return {
        "at": datetime.fromtimestamp(upload.at).astimezone().isoformat() if upload.at else None,
        "federation": upload.federation,
        "run": upload.run,
        "round": upload.round,
        "attempt": upload.attempt,
        "what": upload.what,
        "bytes": upload.bytes,
        **costs,
    }


def _number(spent: Spent | None) -> float | str | None:
    return None if spent is None else "infinite" if isinf(spent.epsilon) else spent.epsilon


def _spent(spent: Spent | None) -> Row | None:
    return None if spent is None else {"epsilon": _number(spent), "delta": spent.delta}


def _words(what: str) -> str:
    first = what.removesuffix(AGAIN)
    return WORDS.get(first, first) + ", once more" * (first != what)


def _cells(row: Row) -> tuple[str, ...]:
    from common.visible import visible

    return (
        row["at"][:16].replace("T", " ") if row["at"] else "not noted",
        visible(row["federation"]) or "-",
        row["run"][:8],
        str(row["round"]),
        _words(row["what"]),
        f"{row['bytes']:,}",
        _cell(row["record_epsilon"]),
        _cell(row["user_epsilon"]),
    )


def _cell(epsilon: float | str | None) -> str:
    return "" if epsilon is None else f"{epsilon:.2f}" if isinstance(epsilon, float) else epsilon
