"""docs/cli.md: what `--help` says, of every command. `python -m tests.cli_pages` writes it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import client.cli
import server.cli
import simulations.cli

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
WIDTH = 100
COMMANDS = (simulations.cli, server.cli, client.cli)
OPENING = """\
# The command line

What `--help` says, of every command. `python -m tests.cli_pages` writes this page.
"""


def page() -> str:
    """The whole page, the same on every terminal."""
    with mock.patch.dict(os.environ, {"COLUMNS": str(WIDTH), "NO_COLOR": "1"}):
        return "\n".join([OPENING, *(_section(parser) for parser in parsers())])


def parsers() -> Iterator[argparse.ArgumentParser]:
    """Each command followed by its sub-commands."""
    for command in COMMANDS:
        yield from _with_subcommands(command._parser())


def _with_subcommands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subcommand in action.choices.values():
                yield from _with_subcommands(subcommand)


def _section(parser: argparse.ArgumentParser) -> str:
    heading = "#" * (1 + len(parser.prog.split()))
    return f"{heading} {parser.prog}\n\n```text\n{parser.format_help()}```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
