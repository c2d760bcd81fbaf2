"""What all three commands show on a terminal: whole figures at any width, and names as they are.

Names of people, folders and models come from outside. They are shown as text: never as rich's
markup, and with control characters spelled out, so that none can drive the terminal.
"""

from __future__ import annotations

import io
import itertools
import os
import sys
from collections.abc import Collection, Sequence
from typing import TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

Cell: TypeAlias = str | Text
WORD = 16  # characters; a longer word of a sentence may be folded in a table


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console that takes every text literally and fails on none, whatever its encoding."""
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")
    piped = not stream.isatty()
    return Console(
        stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False, soft_wrap=piped
    )


def show_table(
    out: Console,
    headings: Sequence[str],
    rows: Sequence[Sequence[Cell] | None],
    *,
    title: str = "",
    figures: Collection[str] = (),
    prose: Collection[str] = (),
    lines: bool = False,
    bare: bool = False,
) -> None:
    """A table where it fits, else row below row, each cell with its heading. Nothing is cut.

    Args:
        rows: None draws a line. A row may end early.
        figures: Headings of columns that stand to the right; they are never broken.
        prose: Headings of columns of sentences, which may be broken anywhere between words.
        lines: Draw a line between any two rows.
        bare: Draw none at all.
    """
    needed = _needed(headings, rows, prose, bare)
    if not out.is_terminal and "COLUMNS" not in os.environ:  # a file has no width
        out.width = max(needed, out.width)
    if needed > out.width:
        _stacked(out, headings, rows, title)
        return
    if bare:
        _bare(out, headings, rows, figures)
        return
    table = Table(title=title or None, title_justify="left", show_lines=lines)
    for heading in headings:
        table.add_column(
            heading,
            justify="right" if heading in figures else "left",
            no_wrap=heading not in prose,
            overflow="fold",
        )
    for row in rows:
        if row is None:
            table.add_section()
        else:
            table.add_row(*(_text(cell) for cell in row))
    out.print(table)


def _bare(
    out: Console,
    headings: Sequence[str],
    rows: Sequence[Sequence[Cell] | None],
    figures: Collection[str],
) -> None:
    every: list[Sequence[Cell]] = [headings, *(row for row in rows if row)]
    widths = [max(map(_width, column)) for column in itertools.zip_longest(*every, fillvalue="")]
    for row in every:
        line = ""
        for heading, cell, width in zip(headings, row, widths, strict=False):
            room = " " * (width - _width(cell))
            line += (room + str(cell) if heading in figures else str(cell) + room) + "  "
        out.print(line.rstrip())


def _width(cell: Cell) -> int:
    """The width of a text in columns: a Chinese sign takes two."""
    return _text(cell).cell_len


def _text(cell: Cell) -> Text:
    return cell if isinstance(cell, Text) else Text(cell)


def _needed(
    headings: Sequence[str],
    rows: Sequence[Sequence[Cell] | None],
    prose: Collection[str],
    bare: bool,
) -> int:
    """The width below which something would be cut."""
    widths = []
    for place, heading in enumerate(headings):
        cells = [heading, *(str(row[place]) for row in rows if row and place < len(row))]
        if heading in prose:
            widths.append(WORD)
        else:
            every = [line for cell in cells for line in cell.splitlines()]
            widths.append(max((Text(line).cell_len for line in every), default=0))
    return sum(widths) + (2 * len(widths) if bare else 3 * len(widths) + 1)


def _stacked(
    out: Console, headings: Sequence[str], rows: Sequence[Sequence[Cell] | None], title: str
) -> None:
    if title:
        out.print(Text(title, "italic"))
    for row in rows:
        if row is None:
            out.print("-" * min(out.width, 20))
            continue
        first, *others = row
        out.print(_text(first))
        for heading, cell in zip(headings[1:], others, strict=False):
            if str(cell):
                out.print(Text.assemble(f"  {heading}: ", cell))
