"""What was found of each kind, label or tag: the tables of tasks that have such."""

from __future__ import annotations

from typing import Any

from common.page.markup import cells_of, section, text
from simulations.report.page.words import ARMS, MEANS, TOLD

Rows = dict[str, dict[str, Any]]  # of one arm, by kind
SHARES = ("precision", "recall", "f1")
NOTE = (
    "Over all people's held-out examples. Support: how many there are. "
    "Micro: of all together; macro: the mean over kinds; weighted: by support."
)


def kinds(report: dict[str, Any]) -> str:
    """A section for each table; nothing where the task has none."""
    tables = report.get("tables", {})
    return "".join(
        section(f"Kind by kind: {text(name)}", _table({arm: tables[arm][name] for arm in TOLD}))
        for name in tables.get(TOLD[-1], {})
    )


def _table(arms: dict[str, list[dict[str, Any]]]) -> str:
    groups = "".join(f'<th colspan="3" class="group">{ARMS[arm][0]} (%)</th>' for arm in arms)
    heads = "<th>precision</th><th>recall</th><th>F1</th>" * len(arms)
    head = f'<tr><th rowspan="2">kind</th>{groups}<th rowspan="2">support</th></tr><tr>{heads}</tr>'
    found = [{row["kind"]: row for row in rows} for rows in arms.values()]
    body = "".join(f"<tr><th>{text(one)}</th>{_cells(one, found)}</tr>" for one in _order(found))
    table = f'<table class="people"><thead>{head}</thead><tbody>{body}</tbody></table>'
    return f'<div class="wide">{table}</div><p class="note">{NOTE}</p>'


def _order(found: list[Rows]) -> list[str]:
    """Kinds by name, then the means."""
    seen = {kind for rows in found for kind in rows}
    return [*sorted(seen.difference(MEANS)), *(kind for kind in MEANS if kind in seen)]


def _cells(kind: str, found: list[Rows]) -> str:
    rows = [of.get(kind) for of in found]
    shares = ["–" if row is None else f"{100 * row[s]:.1f}" for row in rows for s in SHARES]
    support = max(row["support"] for row in rows if row is not None)
    return cells_of([*shares, f"{support:,}"])
