"""`privity-client join`: enrol this device in a federation."""

from __future__ import annotations

import argparse
from typing import Any

from client.home import open_vault


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("join", help="enrol this device in a federation")
    parser.add_argument("url", metavar="URL", help="https://host:port, as the operator gave it")
    parser.add_argument("code", metavar="CODE", help="the invite, good for one device")
    parser.add_argument(
        "--ca-fingerprint", required=True, metavar="HEX",
        help="SHA-256 of the federation's certificate authority",
    )  # fmt: skip
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """The keys are in the vault before they are shown to anybody, so that a crash loses nothing."""
    from client import membership
    from client.joining import join
    from client.store import FEDERATION
    from common.errors import InputError

    with open_vault(options, exclusive=True) as vault:
        if vault.store.get(FEDERATION) is not None:
            name = vault.store.federation()
            raise InputError(f"This device is in {name!r} already.", "`privity-client leave` it.")
        device, node = membership.keys(vault.store)
        joined = join(options.url, options.code, options.ca_fingerprint, device, node)
        membership.keep(vault.store, joined)
    print(f"This device is member {joined.member} of {joined.federation!r}.")  # noqa: T201
    print("Next: privity-client start")  # noqa: T201
    return 0
