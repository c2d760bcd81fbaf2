"""The page: its head, its policy, its style and the sections in order."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from simulations.report_page.guarantees import privacy, sums
from simulations.report_page.markup import text
from simulations.report_page.results import means, people_plot, people_table
from simulations.report_page.running import rounds, settings
from simulations.report_page.summary import top
from simulations.report_page.words import people_in


def render(report: dict[str, Any]) -> str:
    """The page for one `report.json`: complete HTML, nothing loaded, no script.

    The same report gives the same text. Works for any number of people and rounds, with abandoned
    rounds, and without differential privacy, which it then says first.
    """
    css = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    parts = (top, people_plot, means, rounds, privacy, sums, people_table, settings)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Privity report: {text(report['model'])}, {people_in(report)}</title>"
        f"<style>\n{css}</style></head><body><main>\n"
        + "\n".join(part(report) for part in parts)
        + "\n</main></body></html>\n"
    )
