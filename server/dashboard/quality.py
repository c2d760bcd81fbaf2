"""Quality by version: what evaluations found, drawn with the noise that is on it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from common.page.drawing import INK, svg_of
from common.page.markup import section, text, warning
from server.dashboard.situation import Situation
from server.registry.evaluations import Evaluation, latest
from server.round.hold import HOW_TO_GO_ON, Hold

DRAWN = 60  # versions: the latest
CAPTION = (
    "Gain over the base model by version, in {unit}; higher is better. The line through each"
    " point is ± one standard deviation of what is not known about it: the noise that devices add,"
    " and who was not in the sum."
)
WORDS = (
    "A round evaluates the version that it starts from, on answers that devices hold out. Nobody"
    " sees one device's figure: only the noisy mean comes out of the secure sum. The last version"
    " that was published has no figure yet."
)


def quality(situation: Situation) -> str:
    """The section; nothing where no version was evaluated."""
    found = tuple(latest(situation.evaluations).values())
    if not found:
        return ""
    newest = text(found[-1].verdict())
    return section(
        "Quality",
        f"<p>{newest[0].upper()}{newest[1:]} ({found[-1].devices:,} devices). {WORDS}</p>"
        f"<figure>{_plot(found[-DRAWN:])}<figcaption>{CAPTION.format(unit=found[-1].unit)}</figcaption></figure>",
    )


def gain(found: Evaluation | None) -> str:
    """A cell of a table."""
    return f"{found.gain:+.3f} ± {found.std:.3f}" if found else "–"


def hold_box(hold: Hold | None) -> str:
    """Why no rounds are made and what to do, where that is so."""
    if hold is None:
        return ""
    title, rest = hold.why().split(": ", maxsplit=1)
    return warning(f"{title}.", text(f"{rest[0].upper()}{rest[1:]} {_commands(HOW_TO_GO_ON)}"))


def _commands(words: str) -> str:
    return words.replace("`", "")


@lru_cache(maxsize=2)
def _plot(found: Sequence[Evaluation]) -> str:
    return svg_of(2.2, lambda figure: _draw(figure.subplots(), found))


def _draw(axes: Any, found: Sequence[Evaluation]) -> None:
    versions, gains = [one.version for one in found], [one.gain for one in found]
    bars = [one.std for one in found]
    axes.axhline(0, color=INK["base"], linewidth=1)
    axes.errorbar(versions, gains, yerr=bars, fmt="o", color=INK["shared"], elinewidth=1.2)
    worse = [one for one in found if one.worse_than is not None]
    axes.plot([one.version for one in worse], [one.gain for one in worse], "x", color=INK["bad"],
              markeredgewidth=1.8, markersize=9)  # fmt: skip
    axes.set_title(f"gain over the base, {found[-1].unit}")
    axes.set_xlabel("version")
    axes.grid(axis="y")
    axes.margins(x=0.05, y=0.15)
    axes.locator_params(axis="y", nbins=5)
    axes.xaxis.get_major_locator().set_params(integer=True)
