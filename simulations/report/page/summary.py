"""The top of the page: the answer, its price, and warnings."""

from __future__ import annotations

from typing import Any

from common.page.markup import text, warning
from simulations.report.page.words import (
    TOLD,
    change,
    delta,
    finished_in,
    label,
    mean_of,
    meaning,
    people_in,
    shown,
    upload,
)
from simulations.report.verdicts import BETTER, UNCHANGED, UNKNOWN, WORSE, verdict_on


def top(report: dict[str, Any]) -> str:
    """The headline, what it cost, and what to beware of."""
    over = f"Privity · simulation report · {text(report['task'])} · {text(report['scenario'])}"
    if report.get("synthetic"):
        over += ' <span class="tag">synthetic data</span>'
    primary, better = report["metric_names"]["primary"], report["metric_names"]["better"]
    return (
        f'<header><p class="over">{over}</p><h1>{_headline(report)}</h1>'
        f'<p class="lead">{_lead(report)}</p><p class="lead">{_cost(report)}</p>'
        f"{_warnings(report)}{_tiles(report)}"
        f'<p class="note">{meaning(primary)} {text(better).capitalize()} is better. '
        f"Means over {people_in(report)}, on examples kept out of training.</p></header>"
    )


def _headline(report: dict[str, Any]) -> str:
    who = f"For {people_in(report)}, {text(report['model'])}"
    if not finished_in(report):
        return f"{who} learnt nothing together: no round was finished."
    endings = {
        BETTER: " got better by learning together.",
        WORSE: " got worse by learning together.",
        UNCHANGED: " shows no significant change from learning together.",
        UNKNOWN: ": too few people to tell progress from chance.",
    }
    return who + endings[verdict_on(report, "shared_vs_base")]


def _lead(report: dict[str, Any]) -> str:
    primary = report["metric_names"]["primary"]
    base, shared, personal = (shown(primary, mean_of(report, arm)) for arm in TOLD)
    return (
        f"Mean {label(primary)} went from <strong>{base}</strong> (base) to "
        f"<strong>{shared}</strong> with the shared adapter ({change(report, 'shared_vs_base')}) "
        f"and to <strong>{personal}</strong> with a personal adapter on top "
        f"({change(report, 'personal_vs_shared')}). Against learning alone on each device, at "
        f"{shown(primary, mean_of(report, 'local'))}: {change(report, 'personal_vs_local')}."
    )


def _cost(report: dict[str, Any]) -> str:
    spent = [
        f"ε = {kind['epsilon']:.2f}, δ = {delta(kind)} at {level} level"
        for level in ("record", "user")
        if (kind := report["privacy"].get(level))
    ]
    privacy = " and ".join(spent) or "<strong>no differential privacy</strong>"
    return f"What it cost: {privacy}; {upload(report)} sent by each device in a round."


def _warnings(report: dict[str, Any]) -> str:
    boxes = ""
    if not any(report["privacy"].values()):
        boxes += warning(
            "No differential privacy.",
            "The shared adapter may remember what people wrote, and whoever gets it may find that "
            "out. Not a setting for real people.",
        )
    if not report["secure_aggregation"]["enabled"]:
        boxes += warning("No secure aggregation.", "The server saw every device's update.")
    return boxes


def _tiles(report: dict[str, Any]) -> str:
    primary, record = report["metric_names"]["primary"], report["privacy"]["record"]
    tiles = [(shown(primary, mean_of(report, arm)), f"{label(primary)}, {arm}") for arm in TOLD]
    if record:
        tiles.append((f"ε {record['epsilon']:.2f}", f"δ {delta(record)}, record level"))
    else:
        tiles.append(("ε none", "no differential privacy at record level"))
    tiles.append((upload(report), "per device and round"))
    cards = (f'<div class="card"><b>{big}</b><span>{small}</span></div>' for big, small in tiles)
    return f'<div class="cards">{"".join(cards)}</div>'
