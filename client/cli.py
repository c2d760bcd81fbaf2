"""`privity-client`: a person's vault, what leaves it, and what they allow."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from client.commands import (
    chat,
    export,
    forget,
    import_,
    init,
    install_service,
    join,
    label,
    leave,
    memory,
    passphrase,
    policy,
    recount,
    start,
    status,
    stop,
    train,
    uploads,
)
from common.console.command_line import Parser, run_command

COMMANDS = (
    init, import_, export, forget, memory, train, chat, label, join, start, stop, status, uploads,
    policy, recount, leave, passphrase, install_service,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 our fault, 2 the input's, 130 interrupted."""
    return run_command(_parser, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="privity-client", description="An assistant of your own, on your device.")
    everywhere = _common(default=argparse.SUPPRESS)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(_Commands(commands, everywhere))
    for action in _common(default=None)._actions:
        parser._add_action(action)
    return parser


class _Commands:
    """Where commands are added; each takes the options that all have."""

    def __init__(self, commands: Any, common: argparse.ArgumentParser) -> None:
        self._commands, self._common = commands, common

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = self._commands.add_parser(
            name, parents=[self._common], **options
        )
        return parser

    def below(self, parser: argparse.ArgumentParser) -> _Commands:
        """Where commands of a command are added."""
        more = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
        return _Commands(more, self._common)


def _common(default: Any) -> argparse.ArgumentParser:
    """Options that may stand before or after the command."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--home", metavar="DIR", default=default,
        help="the vault's folder (default: $PRIVITY_HOME, or privity in your data folder)",
    )  # fmt: skip
    common.add_argument(
        "--passphrase-file", metavar="FILE", default=default,
        help="read the passphrase from this file (default: $PRIVITY_PASSPHRASE_FILE, or ask)",
    )  # fmt: skip
    common.add_argument(
        "--passphrase-fd", metavar="N", type=int, default=default,
        help="read the passphrase from this file descriptor",
    )  # fmt: skip
    return common
