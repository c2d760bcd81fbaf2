"""`privity-client leave`: leave the federation and forget the keys."""

from __future__ import annotations

import argparse
from typing import Any

from client.vault.home import open_vault
from common.console.say import say


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("leave", help="leave the federation and forget its keys")
    parser.add_argument(
        "--anyway", action="store_true", help="forget the keys even if nobody can be told"
    )
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """The ledger stays: what was spent stays spent."""
    from client.federation import membership
    from client.federation.joining import leave
    from common.errors import PrivityError

    with open_vault(options, exclusive=True) as vault:
        store, known = vault.store, membership.membership(vault.store)
        try:
            leave(known, membership.keys(store)[0], journal=store.journal_other)
        except PrivityError as error:
            if not options.anyway:
                error.hint = f"{error.hint} Or forget the keys all the same: --anyway.".strip()
                raise
            say(f"The operator was not told: {error.message}")
        membership.forget(store)
    say(f"This device has left {known.federation!r}.")
    return 0
