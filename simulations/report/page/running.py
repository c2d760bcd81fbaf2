"""How the run went: its rounds, its time and its settings."""

from __future__ import annotations

from statistics import median
from typing import Any

from common.page.drawing import draw_rounds, svg_of
from common.page.markup import cells_of, facts_of, section, text
from common.rounds.outcomes import HELD
from simulations.report.page.words import finished_in


def rounds(report: dict[str, Any]) -> str:
    """How many rounds were finished, with how many devices and in how many seconds."""
    log = report["rounds_log"]
    if not log:
        return section("Rounds", "<p>No round took place.</p>")
    done = finished_in(report)
    words = f"{done} of {len(log)} rounds finished"
    held = sum(entry["status"] == HELD for entry in log)
    if lost := len(log) - done - held:
        words += f"; {lost} abandoned (×): too few devices stayed, nothing was revealed"
    if held:
        words += f"; {held} held (×): the version they started from proved worse"
    svg = svg_of(2.9, lambda figure: draw_rounds(figure.subplots(2, 1, sharex=True), log))
    seconds = median(entry["seconds"] for entry in log)
    return section(
        "Rounds",
        f"<p>{words}. Median {seconds:,.1f} s a round.</p><figure>{svg}<figcaption>Above: devices "
        "asked (pale) and devices whose update is in the sum (solid). Below: seconds per round."
        "</figcaption></figure>",
    )


def evaluations(report: dict[str, Any]) -> str:
    """What the rounds found of the versions they started from; nothing without evaluations."""
    found = report.get("evaluations")
    if not found:
        return ""
    unit = found[0]["unit"]
    rows = "".join(f"<tr>{cells_of(_cells(one))}</tr>" for one in found)
    head = cells_of(("version", "in round", "gain over base", "± noise", "devices"), "th")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return section(
        "Evaluations",
        "<p>The noisy mean gain of a published version on what is held out, in"
        f" {text(unit)}, out of the secure sum: all that a server would see of quality.</p>"
        f'<div class="wide">{table}</div>',
    )


def _cells(one: dict[str, Any]) -> list[str]:
    figures = (f"{one['gain']:+.3f}", f"{one['noise_std']:.3f}")
    return [str(one["version"]), str(one["round"]), *figures, str(one["devices"])]


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
