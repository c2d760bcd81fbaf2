"""`privity-client policy`: what the device may take part in."""

from __future__ import annotations

import argparse
from typing import Any

from client.vault.home import open_vault
from common.console.say import say
from common.errors import InputError


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("policy", help="show or set what the device may take part in")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", dest="changes",
        help="settings to change, such as hours=22:00-07:00 only_idle=yes",
    )  # fmt: skip
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Change what was given, all of it or nothing, and show the policy."""
    from client.federation import policy

    changes = dict(_change(text) for text in options.changes)
    policy.changed(policy.Policy(), changes)  # a mistake is told before a passphrase is asked for
    with open_vault(options) as vault:
        current = policy.decode(vault.store.get(policy.KEY))
        if changes:
            current = policy.changed(current, changes)
            vault.store.put(policy.KEY, current.encode())
    for name in policy.names():
        setting = f"{name}={policy.shown(current, name)}"
        say(f"{setting:28} {policy.meaning(name)}")
    return 0


def _change(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"{text!r} is not NAME=VALUE.", "`privity-client policy` lists the names.")
    return name, value
