"""How the run went: its rounds, its time and its settings."""

from __future__ import annotations

from statistics import median
from typing import Any

from common.page.drawing import draw_rounds, svg_of
from common.page.markup import facts_of, section, text
from simulations.report_page.words import finished_in


def rounds(report: dict[str, Any]) -> str:
    """How many rounds were finished, with how many devices and in how many seconds."""
    log = report["rounds_log"]
    if not log:
        return section("Rounds", "<p>No round took place.</p>")
    done = finished_in(report)
    words = f"{done} of {len(log)} rounds finished"
    if done < len(log):
        words += f"; {len(log) - done} abandoned (×): too few devices stayed, nothing was revealed"
    svg = svg_of(2.9, lambda figure: draw_rounds(figure.subplots(2, 1, sharex=True), log))
    seconds = median(entry["seconds"] for entry in log)
    return section(
        "Rounds",
        f"<p>{words}. Median {seconds:,.1f} s a round.</p><figure>{svg}<figcaption>Above: devices "
        "asked (pale) and devices whose update is in the sum (solid). Below: seconds per round."
        "</figcaption></figure>",
    )


def settings(report: dict[str, Any]) -> str:
    """Time, memory and every setting."""
    timing = report["timing"]
    rows = (
        ("Time", f"{timing['seconds']:,.1f} s"),
        ("Trained on", f"{timing['train_tokens']:,.0f} tokens, "
         f"{timing['train_tokens_per_second']:,.0f} tokens/s"),
        ("Most memory", f"{timing['peak_rss_mb']:,.0f} MB"),
        ("Engine", text(report["engine"])),
        ("Sharing", text(report["sharing"])),
        ("Seed", text(report["seed"])),
        ("Version", f"Privity {text(report['version'])}"),
    )  # fmt: skip
    every = [(text(name), text(value)) for name, value in report["settings"].items()]
    return section(
        "How it was run",
        f"{facts_of(rows)}<details><summary>All {len(every)} settings</summary>"
        f"{facts_of(every)}</details>",
    )
