"""`privity-client chat`: a conversation in the terminal."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from client.vault.home import open_vault


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("chat", help="talk with your assistant")
    parser.add_argument("--base", action="store_true", help="without your adapters")
    parser.add_argument("--model", default="", metavar="NAME", help="base model without adapters")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Nothing that is written is stored or sent."""
    from client.assistant.engine import open_engine
    from client.assistant.terminal import chat
    from client.learning import adapters

    with open_vault(options) as vault:
        have = adapters.speaking(vault.store, options.model)
    used = () if options.base else (have.shared, have.personal)
    engine = open_engine(have.settings, *used, kept=None if options.base else have.kept)
    try:
        chat(engine, sys.stdin, sys.stdout)
    finally:
        engine.close()
    return 0
