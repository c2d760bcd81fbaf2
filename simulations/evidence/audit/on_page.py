"""An audit as files: `audit.json`, and `audit.html`, one page that loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.page import drawing
from common.page.document import document
from common.page.markup import cells_of, section, text, warning
from common.system import strict_json
from simulations.evidence.audit.findings import SOUND, AuditReport, Finding
from simulations.evidence.audit.on_terminal import TITLES, conclusion, groups

COLUMNS = ("what", "tried", "measured", "claimed", "verdict")
ROW_IN, EDGE_IN = 0.22, 0.6


def write(report: AuditReport, folder: Path) -> None:
    """Write both files, making the folder if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    content = strict_json.encode(report.to_dict(), indent=1)
    (folder / "audit.json").write_text(content, encoding="utf-8")
    (folder / "audit.html").write_text(render(report), encoding="utf-8")


def render(report: AuditReport) -> str:
    """The page: complete HTML, no script. The same report gives the same text."""
    said = list(conclusion(report))
    opening = "".join(f"<p>{text(line)}</p>" for line in said[1:])
    first = text(said[0])
    head = warning("Audit failed.", first) if report.exit_code else f"<p>{first}</p>"
    tables = [
        section(text(title), _table(findings))
        for title, findings in zip(TITLES, groups(report), strict=True)
        if findings
    ]
    bounds = [finding for finding in report.findings if "epsilon_lower" in finding.figures]
    plot = section("Lower bounds on ε, and what is claimed", _plot(bounds)) if bounds else ""
    body = f"<h1>Privity audit</h1>{head}{opening}\n{plot}\n" + "\n".join(tables)
    return document("Privity audit", body)


def _table(findings: list[Finding]) -> str:
    rows = "".join(f"<tr>{cells_of(_cells(finding))}</tr>" for finding in findings)
    head = cells_of(COLUMNS, "th")
    return f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'


def _cells(finding: Finding) -> list[str]:
    name = "" if finding.system == SOUND else f"<strong>{text(finding.system)}</strong>: "
    parts = (finding.tried, finding.measured, finding.promised, finding.verdict)
    return [name + text(finding.check), *map(text, parts)]


def _plot(findings: list[Finding]) -> str:
    return drawing.svg_of(EDGE_IN + ROW_IN * len(findings), lambda figure: _bars(figure, findings))


def _bars(figure: Any, findings: list[Finding]) -> None:
    axes = figure.subplots()
    rows = range(len(findings), 0, -1)
    lower = [finding.figures["epsilon_lower"] for finding in findings]
    sound = [finding.system == SOUND for finding in findings]
    colors = [drawing.INK["shared"] if good else drawing.INK["bad"] for good in sound]
    axes.barh(rows, lower, color=colors, height=0.6)
    axes.axvline(findings[0].figures["epsilon_claimed"], color=drawing.INK["ink"], linestyle="--")
    names = [f"{finding.system}, {finding.check}" for finding in findings]
    axes.set_yticks(list(rows), names, parse_math=False, color=drawing.INK["ink"])
    axes.set_title("ε at least, 95 % (dashed: claimed)")
    axes.set_xlim(left=0)
    axes.grid(axis="x")
