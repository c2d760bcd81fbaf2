"""The frame of every page: its policy forbids scripts and loads, its style is inside."""

from __future__ import annotations

from importlib.resources import files

POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def document(title: str, body: str, head: str = "") -> str:
    """Complete HTML. All arguments are markup: text of others is escaped by who calls."""
    css = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">{head}'
        f"<title>{title}</title><style>\n{css}</style></head><body><main>\n"
        f"{body}\n</main></body></html>\n"
    )
