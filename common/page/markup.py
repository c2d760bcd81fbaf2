"""HTML, and text made safe for it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from html import escape
from typing import Any


def text(value: Any) -> str:
    """Escaped for markup and for attributes."""
    return escape(_printable(value), quote=True)


def _printable(value: Any) -> str:
    """One line of text without control characters or half characters, which no file could hold."""
    return "".join(
        "\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter
        for letter in str(value)
    )


def short(user: Any) -> str:
    """A name that fits beside a plot; not escaped."""
    name = _printable(user)
    return name if len(name) <= 12 else name[:11] + "…"


def section(title: str, body: str) -> str:
    """A part of the page under its own heading."""
    return f"<section><h2>{title}</h2>{body}</section>"


def warning(title: str, body: str) -> str:
    """A box that stands out."""
    return f'<div class="warn" role="note"><strong>{title}</strong> {body}</div>'


def cells_of(cells: Iterable[str], tag: str = "td") -> str:
    """One row's cells."""
    return "".join(f"<{tag}>{cell}</{tag}>" for cell in cells)


def facts_of(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and values."""
    body = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows)
    return f'<div class="wide"><table class="facts">{body}</table></div>'
