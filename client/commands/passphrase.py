"""`privity-client passphrase`: keep the vault's key under a new passphrase, or in the keyring."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from client.vault.home import from_file, from_terminal, home, usual_unlock
from common.console.say import say
from common.errors import InputError


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("passphrase", help="change what opens the vault")
    parser.add_argument(
        "--new-passphrase-file", metavar="FILE", type=Path,
        help="read the new passphrase from this file instead of asking",
    )  # fmt: skip
    parser.add_argument(
        "--keyring", action="store_true", help="keep the key in the OS keyring from now on"
    )
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Open the vault as it is kept, and keep its key in the new way."""
    from client.vault.unlocking import Keyring, Passphrase, Unlock
    from client.vault.vault import Vault

    if options.keyring and options.new_passphrase_file:
        problem = "--keyring and --new-passphrase-file contradict each other."
        raise InputError(problem, "Give one of them.")
    old = usual_unlock(options)
    with Vault.open(home(options), old) as vault:
        new: Unlock
        if options.keyring:
            new = Keyring()
        elif options.new_passphrase_file:
            new = Passphrase(lambda _: from_file(options.new_passphrase_file))
        else:
            new = Passphrase(from_terminal)
        vault.rekey(new, old)
    opens = "the OS keyring" if options.keyring else "the new passphrase"
    say(f"From now on {opens} opens the vault.")
    return 0
