"""What learning together did: person by person, and on average."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from common.page.drawing import svg_of
from common.page.markup import cells_of, section, text
from simulations.report.page.plots import NAMES, ROWS, draw_people
from simulations.report.page.words import (
    ARMS,
    PAIRS,
    POOLED,
    axis_unit,
    difference,
    finite,
    is_number,
    label,
    or_none,
    people_in,
    shown,
)
from simulations.report.verdicts import verdict_on


def people_plot(report: dict[str, Any]) -> str:
    """Everybody's four figures, drawn."""
    name = report["metric_names"]["primary"]
    people = report["per_user"]
    ranked = sorted(people, key=lambda person: _last_if_missing(person["base"].get(name)))
    drawn = _spread(ranked, ROWS)
    chosen = "People in"
    if len(drawn) < len(ranked):
        chosen = f"{len(drawn)} of {people_in(report)}, evenly spread over the"
    log = _needs_log([person[arm].get(name) for person in drawn for arm in ARMS])
    height_in = 0.5 + len(drawn) * (0.3 if len(drawn) <= NAMES else 0.13)
    svg = svg_of(height_in, lambda figure: draw_people(figure.subplots(), drawn, name, log))
    legend = "".join(
        f'<li><span class="{arm}" aria-hidden="true">{mark}</span><b>{word}</b>: {what}</li>'
        for arm, (word, mark, _, what) in ARMS.items()
    )
    return section(
        "Person by person",
        f'<ul class="legend">{legend}</ul><figure>{svg}<figcaption>Held-out {label(name)}'
        f"{axis_unit(name)}{', logarithmic scale' if log else ''}; "
        f"{text(report['metric_names']['better'])} is better. {chosen} order of their base "
        "model's figure.</figcaption></figure>",
    )


def _last_if_missing(value: Any) -> tuple[bool, float]:
    number = finite(value)
    return (True, 0.0) if math.isnan(number) else (False, number)


def _needs_log(values: Iterable[Any]) -> bool:
    known = [number for value in values if not math.isnan(number := finite(value))]
    return bool(known) and min(known) > 0 and max(known) > 8 * min(known)


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` items, first and last among them, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def means(report: dict[str, Any]) -> str:
    """Each arm's means, and the differences between arms with their intervals."""
    names = [name for name, value in report["metrics"]["base"].items() if is_number(value)]
    head = cells_of(["", *(f"{label(name)}{axis_unit(name)}" for name in names)], "th")
    body = "".join(
        f'<tr><th><span class="{arm}" aria-hidden="true">{mark}</span> {word}</th>'
        + cells_of(shown(name, report["metrics"][arm].get(name), unit=False) for name in names)
        + "</tr>"
        for arm, (word, mark, _, _) in {**ARMS, **POOLED}.items()
        if arm in report["metrics"]
    )
    asked = [pair for pair in PAIRS if pair in report["intervals"]]
    findings = "".join(f"<li>{_finding(report, pair)}</li>" for pair in asked)
    return section(
        "Means and differences",
        f'<div class="wide"><table class="means"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div><ul>{findings}</ul>"
        f'<p class="note">Differences of {label(report["metric_names"]["primary"])}, paired '
        "person by person; 95 % interval of the mean. A change counts as significant when the "
        "interval leaves out 0.</p>",
    )


def _finding(report: dict[str, Any], pair: str) -> str:
    title, verdict = PAIRS[pair][2], verdict_on(report, pair)
    interval = report["intervals"].get(pair)
    if interval is None:
        return f"{title}: <strong>{verdict}</strong>."
    name = report["metric_names"]["primary"]
    low, high = (difference(name, bound) for bound in interval)
    return f"{title}: <strong>{verdict}</strong>, between {low} and {high}."


def people_table(report: dict[str, Any]) -> str:
    """The first people's figures, one row each."""
    names = [name for name, value in report["metrics"]["base"].items() if is_number(value)]
    groups = "".join(
        f'<th colspan="{len(ARMS)}" class="group">{label(name)}{axis_unit(name)}</th>'
        for name in names
    )
    arms = "".join(f"<th>{arm}</th>" for arm in ARMS) * len(names)
    head = (
        '<tr><th rowspan="2">person</th><th rowspan="2">train<br>examples</th>'
        '<th rowspan="2">held-out<br>examples</th>'
        f'{groups}<th rowspan="2">ε</th><th rowspan="2">σ</th></tr><tr>{arms}</tr>'
    )
    people = report["per_user"][:ROWS]
    hidden = len(report["per_user"]) - len(people)
    note = f"The first {ROWS} of {people_in(report)}; {hidden:,} more in report.json. "
    return section(
        "Everybody",
        f'<p class="note">{note if hidden else ""}ε and σ (noise multiplier) have no unit; '
        "σ is that of the last round.</p>"
        f'<div class="wide"><table class="people"><thead>{head}</thead><tbody>'
        f"{''.join(_person_row(person, names) for person in people)}</tbody></table></div>",
    )


def _person_row(person: dict[str, Any], names: Sequence[str]) -> str:
    cells = [f"{person['train']:,}", f"{person['heldout']:,}"]
    cells += [shown(name, person[arm].get(name), unit=False) for name in names for arm in ARMS]
    cells += [or_none(person["epsilon"]), or_none(person["noise_multiplier"])]
    user = text(person["user"])
    return f'<tr><th title="{user}"><bdi>{user}</bdi></th>{cells_of(cells)}</tr>'
