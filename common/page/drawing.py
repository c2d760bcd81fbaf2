"""Plots as inline SVG in the page's own colours.

Each colour is drawn as a placeholder that no theme uses and then replaced by its CSS variable.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

from common.rounds.outcomes import DONE
from common.system.quiet import no_warnings

WIDTH_IN = 5.6
COLORS = {  # drawn colour: CSS variable that replaces it
    "#010101": "ink", "#020202": "muted", "#030303": "line", "#040404": "page", "#050505": "bad",
    "#060601": "base", "#060602": "shared", "#060603": "personal", "#060604": "local",
}  # fmt: skip
INK = {name: color for color, name in COLORS.items()}
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "privity", "font.size": 8, "axes.titlesize": 8,
    "axes.titlelocation": "left", "axes.titlecolor": INK["muted"], "axes.axisbelow": True,
    "axes.edgecolor": INK["line"], "axes.labelcolor": INK["muted"], "text.color": INK["ink"],
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "xtick.color": INK["line"], "ytick.color": INK["line"], "grid.color": INK["line"],
    "xtick.labelcolor": INK["muted"], "ytick.labelcolor": INK["muted"], "grid.linewidth": 0.5,
    "xtick.minor.size": 0, "ytick.major.size": 0, "lines.markersize": 5, "figure.dpi": 72,
}  # fmt: skip


def svg_of(height_in: float, draw: Callable[[Any], None]) -> str:
    """What `draw` puts on a figure, as inline SVG in the page's own colours."""
    import matplotlib
    from matplotlib.figure import Figure

    out = io.StringIO()
    # Warned of: names in scripts that matplotlib's own font lacks.
    with matplotlib.rc_context(), no_warnings(category=UserWarning):
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        draw(figure)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    svg = out.getvalue()
    svg = re.sub(r'<g id="[^"]*"', "<g", svg[svg.index("<svg") :])
    return re.sub(r"(fill|stroke): (#0[0-9]{5})\b", _variable, svg)


def _variable(match: re.Match[str]) -> str:
    name = COLORS.get(match[2])
    return f"{match[1]}: var(--{name})" if name else match[0]


def draw_rounds(panels: Any, log: Sequence[dict[str, Any]]) -> None:
    """Devices above, seconds below; abandoned rounds are crossed out.

    Of the attempts that nobody was charged for only the last is drawn, while it is the newest.
    """
    devices, seconds = panels
    log = [one for one in log[:-1] if one.get("charged", True)] + list(log[-1:])
    rounds = [entry["round"] for entry in log]
    done = [entry["survivors"] if entry["status"] == DONE else 0 for entry in log]
    lost = [entry for entry in log if entry["status"] != DONE]
    devices.bar(rounds, [entry["cohort"] for entry in log], color=INK["line"], width=0.7)
    devices.bar(rounds, done, color=INK["shared"], width=0.7)
    devices.plot([entry["round"] for entry in lost], [entry["cohort"] / 2 for entry in lost], "x",
                 color=INK["bad"], markeredgewidth=1.8, markersize=7)  # fmt: skip
    devices.set_title("devices")
    seconds.bar(rounds, [entry["seconds"] for entry in log], color=INK["muted"], width=0.7)
    seconds.set_title("seconds")
    seconds.set_xlabel("round")
    seconds.set_xlim(min(rounds) - 0.6, max(rounds) + 0.6)
    for axes in panels:
        axes.locator_params(axis="y", nbins=5)
        axes.yaxis.set_major_formatter("{x:,.10g}")
        axes.grid(axis="y")
        axes.margins(y=0.12)
        axes.set_ylim(bottom=0)
    seconds.xaxis.get_major_locator().set_params(integer=True)
    devices.yaxis.get_major_locator().set_params(integer=True)
