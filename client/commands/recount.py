"""`privity-client recount`: after a backup was restored, charge what its ledger has forgotten."""

from __future__ import annotations

import argparse
from typing import Any

from client.vault.home import open_vault
from common.console.say import say


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "recount", help="after restoring a backup: charge again what its ledger has forgotten"
    )
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Enter the missing releases, and forget rounds that were under way when the backup was made.

    Their keys may have been used since: nothing is masked under them again.
    """
    from client.federation.prospects import so_far
    from client.vault import watermark
    from client.vault.store import OF_ROUNDS

    with open_vault(options, exclusive=True) as vault:
        store = vault.store
        before = so_far(store.ledger)
        if not watermark.missing(vault):
            say("Nothing is missing in the ledger, as far as this machine knows.")
            return 0
        with store.together():
            for key in [key for prefix in OF_ROUNDS for key in store.keys(prefix)]:
                store.drop(key)
        lines, after = watermark.recount(vault), so_far(store.ledger)
    say(
        f"{lines} lines are charged again. ε of an example: {before.record_epsilon:.2f} before, "
        f"{after.record_epsilon:.2f} now."
    )
    return 0
