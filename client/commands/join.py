"""`privity-client join`: enrol this device in a federation, and take part from now on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from client.vault.home import ask_once, open_vault
from common.console.say import say, say_aside

if TYPE_CHECKING:
    from client.federation.joining import Membership
    from client.federation.policy import Asked
    from client.federation.prospects import Prospect
    from client.vault.store import Store
    from common.enrolment.offer import Offer


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "join", help="enrol this device in a federation",
        description="Show what the federation's rounds ask beside what your policy allows, ask "
        "whether to join, and enrol. Without a terminal, or with --yes, nothing is asked; what "
        "your policy declines is then said on stderr.",
    )  # fmt: skip
    parser.add_argument("url", metavar="URL", help="https://host:port, as the operator gave it")
    parser.add_argument("code", metavar="CODE", help="the invite, good for one device")
    parser.add_argument(
        "--ca-fingerprint", required=True, metavar="HEX",
        help="the federation's fingerprint, as the operator gave it",
    )  # fmt: skip
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--no-start", action="store_true", help="enrol only; `start` takes part")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """The keys are in the vault before they are shown to anybody, so that a crash loses nothing."""
    from client.commands import start
    from client.federation import joining, membership, prospects
    from client.vault.store import FEDERATION
    from common.errors import InputError

    ask_once(options)
    with open_vault(options, exclusive=True) as vault:
        if vault.store.get(FEDERATION) is not None:
            name = vault.store.federation()
            raise InputError(f"This device is in {name!r} already.", "`privity-client leave` it.")
        offer = joining.offered(options.url, options.ca_fingerprint)
        asked, verdict = _shown(vault.store, offer)
        if not _agreed(options, verdict):
            say("Not joined; the invite is still good.")
            return 0
        joined = _joined(options, vault.store)
        membership.keep(vault.store, joined)
        prospects.note_settings(vault.store, offer.settings)
        if asked:
            prospects.note_asked(vault.store, asked, prospects.so_far(vault.store.ledger))
    say(f"This device is member {joined.member} of {joined.federation!r}.")
    if options.no_start:
        say("Next: privity-client start")
        return 0
    return start.begin(options)


def _shown(store: Store, offer: Offer) -> tuple[Asked | None, str]:
    """Show the table; what rounds ask, and a sentence about what would be declined, if anything."""
    from client.federation import policy, prospects
    from common.console.tables import console, show_table
    from common.errors import PrivityError
    from common.visible import visible

    spent, mine = prospects.so_far(store.ledger), policy.decode(store.get(policy.KEY))
    try:
        asked = prospects.expected(offer.settings, store.ledger)
    except PrivityError as error:
        return None, f"Every round would be declined, whatever your policy: {error}"
    rows = prospects.rows(mine, offer.settings, asked, spent)
    headings = ("", "the federation asks", "you allow", "declined")
    cells = [(row.what, row.asked, row.allowed, row.declined) for row in rows]
    out = console()
    out.print(f"{visible(offer.federation)}:")
    show_table(out, headings, cells, bare=True)
    return asked, _verdict(rows)


def _verdict(rows: Sequence[Prospect]) -> str:
    from client.federation.prospects import EVERY, command

    declined = [row for row in rows if row.declined]
    if not declined:
        return ""
    which = "Every round" if any(row.declined == EVERY for row in declined) else "Later rounds"
    reasons = ", ".join(row.what for row in declined)
    changes = [change for row in declined for change in row.changes]
    way = f" To allow it: {command(changes)}" if changes else ""
    return f"{which} would be declined by your policy, because of: {reasons}.{way}"


def _agreed(options: argparse.Namespace, verdict: str) -> bool:
    """Whether to go on; asked where somebody can answer."""
    if verdict:
        say_aside(verdict)
    if options.yes or not sys.stdin.isatty():
        return True
    try:
        answer = input("Join all the same? [y/N] " if verdict else "Join? [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")


def _joined(options: argparse.Namespace, store: Store) -> Membership:
    """Join with the keys that are there, or new ones where another invite enrolled those."""
    from client.federation import membership
    from client.federation.joining import KnownKeysError, join

    invite = options.url, options.code, options.ca_fingerprint
    try:
        return join(*invite, *membership.keys(store), journal=store.journal_other)
    except KnownKeysError:
        membership.forget(store)
        return join(*invite, *membership.keys(store), journal=store.journal_other)
