"""`privity-client`: a person's vault, what leaves it, and what they allow."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from client.commands import (
    chat,
    import_,
    init,
    install_service,
    join,
    leave,
    passphrase,
    policy,
    start,
    status,
    stop,
    train,
    uploads,
)
from common.errors import InputError, PrivityError

COMMANDS = (
    init, import_, train, chat, join, start, stop, status, uploads, policy, leave, passphrase,
    install_service,
)  # fmt: skip
INTERRUPTED = 130
QUIET_ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class _Parser(argparse.ArgumentParser):
    """argparse with the project's one-sentence errors, and options that are written out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> Any:
        raise InputError(f"{message[0].upper()}{message[1:]}.", f"See `{self.prog} --help`.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 our fault, 2 the input's, 130 interrupted."""
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        options = _parser().parse_args(arguments)
        return int(options.action(options))
    except PrivityError as error:
        print(f"privity-client: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\nprivity-client: interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="privity-client", description="An assistant of your own, on your device.")
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
