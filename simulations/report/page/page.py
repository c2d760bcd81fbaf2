"""The page: its title and its sections in order."""

from __future__ import annotations

from typing import Any

from common.page.document import document
from common.page.markup import text
from simulations.report.page.by_label import kinds
from simulations.report.page.guarantees import privacy, sums
from simulations.report.page.results import means, people_plot, people_table
from simulations.report.page.running import evaluations, rounds, settings
from simulations.report.page.summary import top
from simulations.report.page.words import people_in


def render(report: dict[str, Any]) -> str:
    """The page for one `report.json`: complete HTML, nothing loaded, no script.

    The same report gives the same text. Works for any number of people and rounds, with abandoned
    rounds, and without differential privacy, which it then says first.
    """
    parts = (
        top,
        people_plot,
        means,
        kinds,
        rounds,
        evaluations,
        privacy,
        sums,
        people_table,
        settings,
    )
    title = f"Privity report: {text(report['model'])}, {people_in(report)}"
    return document(title, "\n".join(part(report) for part in parts))
