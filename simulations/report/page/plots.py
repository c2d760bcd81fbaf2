"""The report's own plots: people, and what they spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.page.drawing import INK
from common.page.markup import short
from simulations.report.page.words import ARMS, finite, is_number, tick

ROWS, NAMES = 60, 30  # most people in table and plot; most whose names are written in the plot
FAR = 20  # times what was spent


def draw_people(axes: Any, people: Sequence[dict[str, Any]], name: str, log: bool) -> None:
    """One row a person: the four arms' figures on a line."""
    rows = range(len(people), 0, -1)
    values = {arm: [finite(person[arm].get(name)) for person in people] for arm in ARMS}
    ends = list(zip(*values.values(), strict=True))
    axes.hlines(rows, [min(four) for four in ends], [max(four) for four in ends],
                color=INK["line"], linewidth=1.5)  # fmt: skip
    for arm, (_, _, marker, _) in ARMS.items():
        axes.plot(values[arm], rows, marker, color=INK[arm], markeredgecolor=INK["page"],
                  markeredgewidth=0.6)  # fmt: skip
    if log:
        from matplotlib.ticker import LogLocator, NullFormatter

        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(lambda value, _: tick(name, value))
    axes.grid(axis="x")
    names = [short(person["user"]) for person in people] if len(people) <= NAMES else []
    axes.set_yticks(list(rows)[: len(names)], names, parse_math=False, color=INK["ink"])
    axes.set_ylim(0.4, len(people) + 0.6)


def draw_epsilons(axes: Any, spent: Sequence[float], budget: Any) -> None:
    """Each person's ε in ascending order, and the budget where there is one."""
    axes.plot(range(1, len(spent) + 1), spent, "o-" if len(spent) <= ROWS else "-",
              color=INK["shared"], linewidth=1.2, markersize=3.5)  # fmt: skip
    shown = is_number(budget) and budget <= FAR * max(*spent, 0.1)  # else it hides the figures
    if shown:
        axes.axhline(budget, color=INK["muted"], linewidth=1, linestyle="--")
    axes.set_title("ε")
    axes.set_xlabel("people")
    axes.set_ylim(0, max(*spent, budget if shown else 0, 0.1) * 1.15)
    axes.locator_params(axis="y", nbins=4)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y")
