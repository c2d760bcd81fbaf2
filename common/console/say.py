"""Plain lines to whoever started a command; tables and bars are common/console/tables.py's.

Results go to stdout, so that they can be piped; all else goes aside, to stderr.
"""

from __future__ import annotations

import sys


def say(line: str, *, end: str = "\n", at_once: bool = False) -> None:
    """Write a line to stdout.

    Args:
        at_once: For a command that goes on: do not leave it in a buffer when stdout is no terminal.
            Left there, a reader that has gone is noticed only once the command has done its work.
    """
    print(line, end=end, flush=at_once)  # noqa: T201


def say_aside(line: str) -> None:
    """Write a line to stderr, at once: progress, and what went wrong."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201
