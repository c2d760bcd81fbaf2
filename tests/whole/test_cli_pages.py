"""docs/cli.md says what `--help` says, of every command."""

from __future__ import annotations

import subprocess
import sys

import cli_pages
import pytest


def test_the_page_is_what_help_says() -> None:
    """Word by word: Python 3.13 breaks a few lines elsewhere than 3.11."""
    written = cli_pages.PAGE.read_text(encoding="utf-8")
    problem = "docs/cli.md is out of date: run `python -m tests.cli_pages`"
    assert written.split() == cli_pages.page().split(), problem


def test_no_command_is_left_out() -> None:
    parsers = {parser.prog for parser in cli_pages.parsers()}
    assert {"privity-sim run", "privity-server init", "privity-client join"} < parsers
    assert all(f"\n## {name}\n" in cli_pages.page() for name in parsers if " " not in name)


def test_the_terminal_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    page = cli_pages.page()
    monkeypatch.setenv("COLUMNS", "40")
    assert cli_pages.page() == page
    assert max(map(len, _wrapped(page))) <= cli_pages.WIDTH


def _wrapped(page: str) -> list[str]:
    """The lines that argparse broke; epilogs are printed as they are written."""
    return [line for line in page.splitlines() if not line.startswith("With ")]


@pytest.mark.parametrize("command", cli_pages.COMMANDS, ids=lambda module: module.__name__)
def test_the_program_prints_the_same(command: object) -> None:
    """A process of its own, as a person starts it."""
    code = f"import sys; from {command.__name__} import main; sys.exit(main(['--help']))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert " ".join(said.stdout.split()) in " ".join(cli_pages.page().split())
