"""`privity-client join`: enrol this device in a federation, and take part from now on."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from client.home import ask_once, open_vault

if TYPE_CHECKING:
    from client.joining import Membership
    from client.store import Store


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("join", help="enrol this device in a federation")
    parser.add_argument("url", metavar="URL", help="https://host:port, as the operator gave it")
    parser.add_argument("code", metavar="CODE", help="the invite, good for one device")
    parser.add_argument(
        "--ca-fingerprint", required=True, metavar="HEX",
        help="the federation's fingerprint, as the operator gave it",
    )  # fmt: skip
    parser.add_argument("--no-start", action="store_true", help="enrol only; `start` takes part")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """The keys are in the vault before they are shown to anybody, so that a crash loses nothing."""
    from client import membership
    from client.commands import start
    from client.store import FEDERATION
    from common.errors import InputError

    ask_once(options)
    with open_vault(options, exclusive=True) as vault:
        if vault.store.get(FEDERATION) is not None:
            name = vault.store.federation()
            raise InputError(f"This device is in {name!r} already.", "`privity-client leave` it.")
        joined = _joined(options, vault.store)
        membership.keep(vault.store, joined)
    print(f"This device is member {joined.member} of {joined.federation!r}.")  # noqa: T201
    if options.no_start:
        print("Next: privity-client start")  # noqa: T201
        return 0
    return start.begin(options)


def _joined(options: argparse.Namespace, store: Store) -> Membership:
    """With the keys that are there; keys that another invite has enrolled are made anew."""
    from client import membership
    from client.joining import KnownKeysError, join

    invite = options.url, options.code, options.ca_fingerprint
    try:
        return join(*invite, *membership.keys(store), journal=store.journal_other)
    except KnownKeysError:
        membership.forget(store)
        return join(*invite, *membership.keys(store), journal=store.journal_other)
