"""What a run shows on the terminal: rounds as they go, and the closing table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from common.console.tables import Cell, console, show_table
from common.models import warn_if_slow
from common.privacy.evaluation import device_std
from common.rounds.outcomes import ABANDONED, DONE, HELD
from common.rounds.round_terms import graph_for
from common.settings import RoundSettings, Settings, TaskSettings
from common.tasks import metric_named, task_of
from common.visible import visible
from server.registry.registry import RoundEntry
from simulations.report.promises import promises, secure_sum
from simulations.report.verdicts import verdict_on

LEG_WORDS = {
    "query.advertise": "keys",
    "query.share": "shares",
    "query.open": "shares opened",
    "train.update": "training",
    "query.confirm": "survivors",
    "query.reveal": "unmasking",
}
LOG_EVERY_S = 30.0
TABLE_ROWS = 40
MOSTLY = 0.95  # a budget of which this share was used is used
ARM_WORDS = ("base", "shared", "shared + personal", "local only")


class Display:
    """Progress on stderr and results on stdout; nothing at all when quiet."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.errors = console(stderr=True, quiet=quiet)
        self.out = console(quiet=quiet)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._spoken = time.monotonic()

    def opening(self, settings: Settings) -> None:
        """What is about to happen, loudly when privacy is off, and whether it could be faster."""
        who, model, out = map(
            visible,
            (
                settings.simulation.data or settings.simulation.scenario,
                settings.model.name,
                settings.simulation.out,
            ),
        )
        self.errors.print(
            Text.assemble(
                ("Privity", "bold"),
                f" · {settings.rounds.users} people ({who}) · {model} · "
                f"{settings.rounds.count} rounds · seed {settings.rounds.seed} · results in {out}",
            )
        )
        for line in _intentions(settings):
            self.errors.print(line)
        if not self.quiet:
            warn_if_slow(settings.model.dtype, settings.model.device)

    def unread(self, kinds: Counter[str]) -> None:
        """Records that the task passes over, by kind."""
        if kinds:
            named = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            self.errors.print(f"Not read by this task: {named} records.")

    def unlearnt(self, labels: int) -> None:
        """Labels that stay on their person's device, and are not learnt there yet either."""
        if labels:
            one = "One label is" if labels == 1 else f"{labels} labels are"
            self.errors.print(f"{one} one person's alone: not learnt, and nobody is told of them.")

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[str], None]]:
        """A progress bar; the yielded function advances it by one with a note beside it."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        visible = self.errors.is_terminal and not self.quiet
        with Progress(*columns, console=self.errors, transient=True, disable=not visible) as bar:
            task = bar.add_task(title, total=total, note="")
            done = 0

            def advance(note: str) -> None:
                nonlocal done
                done += 1
                bar.update(task, completed=done, note=note)
                self._speak(f"{title}: {done} of {total} {note}", visible)

            yield advance

    def round_done(
        self,
        entry: RoundEntry,
        rounds: RoundSettings,
        task: TaskSettings,
        loss: float | None,
        spent: str,
    ) -> None:
        """One line for a finished round."""
        unit = task_of(task).unit
        trained = "" if loss is None else f"training loss {loss:.3f} {unit} · "
        if entry.status == ABANDONED:
            why = getattr(entry, "why", "") or "too few stayed"
            words = f"{entry.status} ({entry.cohort} clients asked: {visible(why).rstrip('.')}) · "
        elif entry.status == HELD:
            words = f"{entry.status} (its start proved worse; back to an earlier version) · "
        else:
            words = f"{entry.survivors} of {entry.cohort} clients · {trained}"
        line = Text(f"round {entry.round}/{rounds.count} · {words}{spent} · {entry.seconds:.1f} s")
        if entry.status != DONE:
            line.highlight_words([entry.status], "yellow")
        self.errors.print(line)

    @contextmanager
    def evaluating(self, users: int) -> Iterator[Callable[[], None]]:
        """The bar of the evaluation."""
        with self.bar("evaluation", users) as advance:
            yield lambda: advance("")

    def closing(self, report: dict[str, Any], out: str) -> None:
        """The table of all people, the means and their intervals, and where the report is."""
        _show_people(self.out, report)
        for line in _findings(report):
            self.out.print(line)
        self.out.print(f"Report: {visible(out)}/report.html and {visible(out)}/report.json")

    def frontier(self, found: dict[str, Any], out: str) -> None:
        """The table of a frontier: one row for each ε."""
        name = found["metric"]
        rows: list[list[str]] = []
        for row in found["rows"]:
            interval = row["intervals"]["shared_vs_base"]
            words = "" if interval is None else between(name, interval, 1)
            level = "none" if row["epsilon"] is None else f"{row['epsilon']:g}"
            rows.append([level, str(row["people"]), *_figures(row["metrics"], name), words])
        title = f"Held-out {name} against ε, mean over all people of all seeds"
        headings = ("ε", "people", *ARM_WORDS, "shared − base, 95 %")
        show_table(self.out, headings, rows, title=title, figures=headings)
        self.out.print(f"Figure: {visible(out)}/frontier.svg")

    def _speak(self, line: str, visible: bool) -> None:
        """Without a terminal, a line now and then instead of a bar."""
        if not visible and time.monotonic() - self._spoken > LOG_EVERY_S:
            self._spoken = time.monotonic()
            self.errors.print(line)


def _show_people(out: Console, report: dict[str, Any]) -> None:
    name = report["metric_names"]["primary"]
    better = report["metric_names"]["better"]
    rows: list[list[Cell] | None] = [
        [
            visible(person["user"]),
            *_figures(person, name),
            _epsilon(person["epsilon"]),
            _epsilon(person["user_epsilon"]),
        ]
        for person in report["per_user"][:TABLE_ROWS]
    ]
    if (hidden := len(report["per_user"]) - TABLE_ROWS) > 0:
        rows.append([f"… {hidden} more"])
    most = [
        f"≤ {kind['epsilon']:.2f}" if (kind := report["privacy"][level]) else "none"
        for level in ("record", "user")
    ]
    means = ["mean", *_figures(report["metrics"], name), *most]
    rows += [None, [Text(cell, "bold") for cell in means]]
    figures = (*ARM_WORDS, "ε, an example", "ε, a person")
    unit = ", %" if _times(name) > 1 else ""
    title = f"Held-out {name}{unit} ({better} is better)"
    show_table(out, ("person", *figures), rows, title=title, figures=figures)


def _figures(arms: dict[str, Any], name: str) -> list[str]:
    names = ("base", "shared", "personal", "local")
    return [f"{_times(name) * arms[arm][name]:.1f}" for arm in names]


def _times(name: str) -> int:
    """By how much a metric is multiplied to be shown: a share, in %, by 100."""
    known = metric_named(name)
    return 100 if known and known.unit == "%" else 1


def between(name: str, interval: Sequence[float], decimals: int) -> str:
    """An interval of differences of a metric, as it is shown."""
    low, high = (_times(name) * bound for bound in interval)
    return f"{low:+.{decimals}f} to {high:+.{decimals}f}"


def _epsilon(spent: float | None) -> str:
    return "none" if spent is None else f"{spent:.2f}"


def _findings(report: dict[str, Any]) -> Iterator[str]:
    name = report["metric_names"]["primary"]
    for pair, interval in report["intervals"].items():
        if interval is not None:
            words, verdict = pair.replace("_vs_", " against "), verdict_on(report, pair)
            yield f"{words}: {name} {between(name, interval, 2)} (95 %, paired) — {verdict}"
    sums = report["secure_aggregation"]
    yield (
        f"sent: {sums['upload_bytes_per_client_round'] / 1000:.1f} kB by each client in a round, "
        f"masked; {sums['dropped']} clients dropped out of finished rounds"
    )
    yield from _unspent(report)
    for one in report["evaluations"]:
        yield (
            f"evaluation of version {one['version']}: {one['gain']:+.3f} {one['unit']} over base,"
            f" noise ± {one['noise_std']:.3f}, {one['devices']} devices"
        )
    yield from promises(report)


def _unspent(report: dict[str, Any]) -> Iterator[str]:
    """Why clearly less was spent than asked for, where that is so."""
    for level, setting in (("record", "epsilon"), ("user", "user_epsilon")):
        kind, asked = report["privacy"][level], report["settings"][setting]
        if kind is None or kind["epsilon"] > MOSTLY * asked:
            continue
        if any(entry["status"] == ABANDONED for entry in report["rounds_log"]):
            why = "not every round took place"
        elif report["settings"]["cohort"]:
            why = "nobody was drawn as often as the plan allows for"
        else:
            why = "the least noise that can be drawn keeps it below"
        spent = f"at most {kind['epsilon']:.2f} of the {asked:g} asked for was spent"
        yield f"ε at {level} level: {spent}, because {why}"


def _loud(words: str) -> Text:
    return Text.assemble((words, "bold red"))


def _intentions(settings: Settings) -> Iterator[Cell]:
    """Both guarantees that a run aims at, and the graph of its secure sum."""
    if settings.record.dp:
        yield (
            f"Record level: ε = {settings.record.epsilon:g}, δ = {settings.record.delta:g} for "
            "each example on its device, over the whole run."
        )
    else:
        yield (
            _loud("RECORD-LEVEL PRIVACY IS OFF")
            + " (--no-dp): a device's own update hides no single example. Updates are still "
            "summed securely."
        )
    if settings.user.epsilon:
        yield (
            f"User level: ε = {settings.user.epsilon:g}, δ = {settings.user.delta:g} for all that "
            "one person contributes, over the whole run."
        )
    elif settings.record.dp:
        yield "User level: off (--user-epsilon switches it on)."
    else:
        yield (
            _loud("USER-LEVEL PRIVACY IS OFF")
            + " too: the shared adapter may remember what people wrote. --user-epsilon switches "
            "it on."
        )
    if settings.evaluation.epsilon:
        task = task_of(settings.task)
        yield (
            f"Evaluation: ε = {settings.evaluation.epsilon:g} of one held-out {task.one} for all of"
            f" them, noise ± {device_std(settings):.2f} {task.unit} on each device."
        )
    yield secure_sum(graph_for(settings.sum, settings.rounds.cohort or settings.rounds.users))
