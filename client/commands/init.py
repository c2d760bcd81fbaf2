"""`privity-client init`: make the vault."""

from __future__ import annotations

import argparse
from typing import Any

from client.vault.home import asking, given, home
from common.console.say import say


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("init", help="make the encrypted vault that keeps what is yours")
    parser.add_argument(
        "--passphrase", action="store_true",
        help="keep its key under a passphrase instead of in the OS keyring",
    )  # fmt: skip
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Make a vault whose key is in the OS keyring, or under a passphrase where one is named."""
    from client.vault import watermark
    from client.vault.unlocking import Keyring, Passphrase
    from client.vault.vault import Vault

    by_passphrase = options.passphrase or given(options)
    unlock = Passphrase(asking(options)) if by_passphrase else Keyring()
    folder = home(options)
    Vault.create(folder, unlock).close()
    kept = "its passphrase, which nobody can recover," if by_passphrase else "the OS keyring"
    say(f"The vault is in {folder}; {kept} opens it.")
    if spent := watermark.others():
        most = max(one.epsilon for one in spent)
        say(
            f"Another vault on this machine has spent ε {most:.2f} of an example. What is imported "
            "here too is charged in both, and nothing adds that up."
        )
    say("`privity-client import FILE` brings in what it shall learn from.")
    return 0
