"""What is shown on a terminal: whole figures at 40 columns, names as text, any encoding."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_up_people import write_people
from rich.console import Console

from common.console.tables import show_table
from common.settings import Settings
from common.visible import visible
from simulations.cli import main
from simulations.evidence.audit.findings import BROKEN, SOUND, AuditReport, Finding
from simulations.evidence.audit.on_terminal import show as show_audit
from simulations.evidence.benchmarks import _show as show_bench
from simulations.report.display import Display, _unspent

HEADINGS = ("person", "base", "ε, an example")
ROWS = [["a-person-with-a-long-name-1", "12,345.67", "8.00"], None, ["mean", "12,345.67", "≤ 8.00"]]
HOSTILE = (
    "[red]anna",
    "[/]",
    "[bold]x",
    "esc\x1b[2Jape",
    "twelve-characters-a",
    "twelve-characters-b",
)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    return int(request.param)


at_widths = pytest.mark.parametrize("terminal", [40, 80, 120], indirect=True)


@at_widths
def test_no_figure_is_cut_at_any_width(terminal: int) -> None:
    shown = io.StringIO()
    show_table(Console(file=shown), HEADINGS, ROWS, title="Held-out", figures=HEADINGS[1:])
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= terminal
    for words in ("12,345.67", "8.00", "≤ 8.00", "a-person-with-a-long-name-1", *HEADINGS[1:]):
        assert any(words in line for line in lines)
    assert "…" not in shown.getvalue()


def test_a_file_has_no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    shown = io.StringIO()
    rows = [["x" * 300, "1.0", "2.0"]]
    show_table(Console(file=shown, width=80), HEADINGS, rows, figures=HEADINGS[1:])
    assert any("x" * 300 in line and "2.0" in line for line in shown.getvalue().splitlines())


def test_what_cannot_be_seen_is_spelled_out() -> None:
    assert visible("a\x1b[2Jb\x9bc\nd\u202ee é 茶") == r"a\x1b[2Jb\x9bc\nd\u202ee é 茶"


@at_widths
def test_a_run_with_hostile_names_shows_all_of_them(
    terminal: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_people(tmp_path / "[red]data[/]", len(HOSTILE))
    for number, name in enumerate(n.replace("/", "⁄") for n in HOSTILE):
        (data / f"person{number:03d}.jsonl").rename(data / f"{name}.jsonl")
    out = tmp_path / "[bold]out"
    options = ("--model", "tiny", "--examples", "8", "--rounds", "1", "--personal-epochs", "0")
    assert main(["run", "--data", str(data), *options, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "[red]data[" in said.err.replace("\n", "")
    assert "[bold]out" in said.out.replace("\n", "")
    assert "\x1b" not in said.out + said.err
    for name in HOSTILE:
        assert visible(name).replace("/", "⁄") in said.out
    assert all(len(line) <= terminal for line in said.out.splitlines() if line[0] in "┏┃│")
    assert "≤ 8.00" in said.out or "≤ 7." in said.out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_stream_that_is_not_utf_8_breaks_nothing(tmp_path: Path, encoding: str) -> None:
    data = write_people(tmp_path / "people", 3)
    options = ("--model", "tiny", "--examples", "8", "--rounds", "1", "--personal-epochs", "0")
    command = ["run", "--data", str(data), *options, "--out", str(tmp_path / "out")]
    code = "import sys; from simulations.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-500:]
    assert b"Traceback" not in done.stderr
    assert "report.json" in done.stdout.decode(encoding, errors="replace")


@at_widths
def test_audit_and_bench_show_everything(terminal: int, capsys: pytest.CaptureFixture[str]) -> None:
    finding = Finding("[red]check", SOUND, "a sentence " * 9, "ε ≥ 123.45", "8.00", BROKEN, {})
    shown = io.StringIO()
    show_audit(AuditReport(0, True, (), (finding,)), Console(file=shown, markup=False))
    assert "[red]check" in shown.getvalue()
    assert "123.45" in shown.getvalue()
    row = {"case": "[x]", "data": "made up", "ours": {"a_long_figure_s": 123456.789},
           "peers": {"opacus": {"a_long_figure_s": 2}, "another peer": {"a_long_figure_s": 3}},
           "limit": {}, "ratios": {"speed": 1.5}}  # fmt: skip
    show_bench({"name": "dp", "machine": {"cpu": "[red]"}, "rows": [row]})
    said = capsys.readouterr().out
    assert "1.235e+05" in said
    assert "[red]" in said
    assert "[x]" in said
    for text in (shown.getvalue(), said):
        assert max(map(len, text.splitlines())) <= terminal


def test_an_abandoned_round_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    entry: Any = SimpleNamespace(
        status="abandoned", round=1, cohort=3, survivors=0, seconds=1.0, why="2 [red] declined."
    )
    Display().round_done(entry, Settings().rounds, Settings().task, None, "no DP")
    assert "round 1/3 · abandoned (3 clients asked: 2 [red] declined) · no DP" in (
        capsys.readouterr().err.replace("\n", " ")
    )


@pytest.mark.parametrize(
    ("spent", "status", "cohort", "why"),
    [
        (8.0, "done", 0, None),
        (4.2, "abandoned", 0, "not every round took place"),
        (4.2, "done", 3, "nobody was drawn as often"),
        (4.2, "done", 0, "the least noise"),
    ],
)
def test_less_than_the_budget_is_said_with_its_reason(
    spent: float, status: str, cohort: int, why: str | None
) -> None:
    report = {
        "privacy": {"record": {"epsilon": spent}, "user": None},
        "settings": {"epsilon": 8.0, "user_epsilon": 0.0, "cohort": cohort},
        "rounds_log": [{"status": status}],
    }
    said = list(_unspent(report))
    if why is None:
        assert said == []
    else:
        assert "at most 4.20 of the 8 asked for" in said[0]
        assert why in said[0]
