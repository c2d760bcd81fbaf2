"""An audit on the terminal: a bar while it runs, then what was tried, measured and claimed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from common.console.tables import Cell, console, show_table
from simulations.evidence.audit.findings import (
    BROKEN,
    CAUGHT,
    HOLDS,
    MISSED,
    SHOWN,
    SOUND,
    AuditReport,
    Finding,
)

COLORS = {HOLDS: "green", CAUGHT: "green", BROKEN: "bold red", MISSED: "bold red", SHOWN: "dim"}
TITLES = (
    "Privity as it is: does measurement refute what it claims?",
    "For comparison: what the same attacks see where nothing is claimed",
    "Privity broken on purpose: would this audit notice?",
)


@contextmanager
def progress(steps: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr; the yielded function is `run_audit`'s `watch`."""
    from simulations.report.display import Display

    display = Display()
    with display.bar("audit", steps) as advance:
        yield advance


def show(report: AuditReport, out: Console | None = None) -> None:
    """Three tables and the conclusion, on stdout unless told otherwise."""
    out = out or console()
    for title, findings in zip(TITLES, groups(report), strict=True):
        if findings:
            _show(out, title, findings)
    for line in conclusion(report):
        out.print(line)


def groups(report: AuditReport) -> tuple[list[Finding], list[Finding], list[Finding]]:
    """The sound system's claims, what is only shown, and the broken variants."""
    shown = [finding for finding in report.findings if finding.verdict == SHOWN]
    judged = [finding for finding in report.findings if finding.verdict != SHOWN]
    sound = [finding for finding in judged if finding.system == SOUND]
    return sound, shown, [finding for finding in judged if finding.system != SOUND]


def conclusion(report: AuditReport) -> Iterator[str]:
    """What it comes to, in sentences."""
    sound, _, broken = groups(report)
    if report.broken:
        names = "; ".join(finding.check for finding in report.broken)
        yield f"FAILED: measurement refutes what Privity claims ({names})."
    else:
        yield f"No claim was refuted: {len(sound)} checks of the sound system hold."
    if report.missed:
        names = ", ".join(f"{finding.system} ({finding.check})" for finding in report.missed)
        yield f"BLIND: these broken variants were not noticed: {names}."
    elif broken:
        variants = len({finding.system for finding in broken})
        subject = f"All {variants} broken variants were" if variants > 1 else "The variant was"
        yield f"{subject} caught, by what came out."
    yield (
        "A lower bound far below the claim is no proof that the claim holds; one above it would "
        "prove that it does not. ε is a bound on how much more likely anything seen can become "
        "through one example (record level) or one person (user level): e^ε times, 2.7 for ε = 1."
    )
    for words in report.left_out:
        yield f"Left out by --quick: {words}."
    yield f"Seed {report.seed}, {report.seconds:.0f} s."


def _show(out: Console, title: str, findings: list[Finding]) -> None:
    rows: list[list[Cell]] = []
    for finding in findings:
        system = [] if finding.system == SOUND else [(f"{finding.system}\n", "bold")]
        rows.append(
            [
                Text.assemble(*system, finding.check),
                finding.tried,
                finding.measured,
                finding.promised,
                Text(finding.verdict, COLORS[finding.verdict]),
            ]
        )
    headings = ("what", "tried", "measured", "claimed", "verdict")
    show_table(out, headings, rows, title=title, prose=headings[:-1], lines=True)
