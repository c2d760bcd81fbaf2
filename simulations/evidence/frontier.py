"""`privity-sim frontier`: what privacy costs, as quality against ε over several seeds.

One ordinary run for each seed and ε, each in its own folder, and a figure over all people of all
seeds. An interrupted frontier continues where it stopped when the command is given again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from common.errors import InputError
from common.settings import Settings, defaults, from_mapping, require_none_in_vain
from common.system import files, strict_json
from common.tasks import metric_named, task_of
from simulations import run as runs
from simulations.arms import ARMS
from simulations.report.display import Display
from simulations.report.report import PAIRS, nothing_learnt, paired_interval

NONE = "none"


def parse_levels(text: str) -> list[float | None]:
    """`1,8,none` → [1.0, 8.0, None], None being no differential privacy.

    Raises:
        InputError: For anything else.
    """
    try:
        levels = [None if part.strip() == NONE else float(part) for part in text.split(",")]
        return list(dict.fromkeys(levels))
    except ValueError:
        raise InputError(
            f"--epsilons {text!r} is not a list.", "Give for example 1,8,none."
        ) from None


def parse_seeds(text: str) -> list[int]:
    """`0,1,2` → [0, 1, 2].

    Raises:
        InputError: For anything else.
    """
    try:
        return list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise InputError(f"--seeds {text!r} is not a list.", "Give for example 0,1,2.") from None


def frontier(
    given: dict[str, Any],
    seeds: Sequence[int],
    levels: Sequence[float | None],
    out: Path,
    display: Display,
    *,
    guarantee: str = "record",
) -> dict[str, Any]:
    """Run every seed at every level of a guarantee; the summary, also written with its figure."""
    private = next((level for level in levels if level is not None), None)
    require_none_in_vain(_settings(given, seeds[0], private, out, guarantee), given)
    reports: dict[float | None, list[dict[str, Any]]] = {level: [] for level in levels}
    for seed in seeds:
        for level in levels:
            folder = out / f"seed-{seed}" / f"epsilon-{NONE if level is None else f'{level:g}'}"
            settings = _settings(given, seed, level, folder, guarantee)
            reports[level].append(_report(settings, display))
            found = summary(reports, task_of(settings.task).primary.name, guarantee)
            _write(out, found)
    return found


def _settings(
    given: dict[str, Any], seed: int, level: float | None, folder: Path, guarantee: str
) -> Settings:
    """Record level: DP-SGD at ε, or nothing. User level: noise in the sum alone, or the same
    training without it.
    """
    chosen: dict[str, Any] = dict(given, seed=seed)
    task, user = chosen.get("task", Settings().task.name), guarantee == "user"
    if user:
        basis = defaults(task=task, dp=False, user_epsilon=1.0)
        chosen = basis | chosen | {"dp": False, "user_epsilon": level or 0.0}
    else:
        basis = defaults(task=task, dp=level is not None, user_epsilon=0.0)
        chosen = basis | chosen | {"dp": level is not None}
        chosen |= {} if level is None else {"epsilon": level}
    return from_mapping(chosen).but(out=str(folder.absolute()))


def _report(settings: Settings, display: Display) -> dict[str, Any]:
    folder = Path(settings.simulation.out)
    file = folder / "report.json"
    if not file.exists():
        settings = runs.resolve(settings)
        if not (folder / runs.SETTINGS_FILE).exists():
            runs.prepare(settings)
        _check_same(settings, runs.stored_settings(folder))
        display.opening(settings)
        runs.run(settings, display)
    try:
        report: dict[str, Any] = strict_json.decode(file.read_text(encoding="utf-8"))
        report["per_user"], report["seed"], report["rounds_log"]
    except (ValueError, RecursionError, TypeError, KeyError):
        raise InputError(
            f"{file} is damaged.", "Delete it: the same command writes it again."
        ) from None
    return report


def _check_same(settings: Settings, stored: Settings) -> None:
    differing = [k for k, v in stored.to_dict().items() if settings.to_dict()[k] != v]
    if differing:
        problem = f"{settings.simulation.out} was started with another {', '.join(differing)}."
        raise InputError(problem, "Give the same settings again, or another --out.")


def summary(
    reports: dict[float | None, list[dict[str, Any]]], metric: str, guarantee: str = "record"
) -> dict[str, Any]:
    """Means and paired 95 % intervals of each level, over all people of all seeds.

    Args:
        metric: The one that is drawn: the primary one of what was learnt.
    """
    rows = []
    for level, several in reports.items():
        people = [person for report in several for person in report["per_user"]]
        if not people:
            continue
        rows.append(
            {
                "epsilon": level,
                "seeds": [report["seed"] for report in several],
                "people": len(people),
                "metrics": {
                    arm: {name: mean(p[arm][name] for p in people) for name in people[0][arm]}
                    for arm in ARMS
                },
                "intervals": _intervals(people, metric),
                "intervals_of_all": {name: _intervals(people, name) for name in people[0]["base"]},
            }
        )
    return {
        "metric": metric,
        "guarantee": guarantee,
        "rows": rows,
        "nothing_learnt": [
            f"Seed {report['seed']}, ε = {_level(level)}: {problem}"
            for level, several in reports.items()
            for report in several
            if (problem := nothing_learnt(report["rounds_log"]))
        ],
    }


def _intervals(people: list[dict[str, Any]], metric: str) -> dict[str, list[float] | None]:
    return {f"{a}_vs_{b}": paired_interval(people, a, b, metric) for a, b in PAIRS}


def _write(out: Path, found: dict[str, Any]) -> None:
    files.write(out / "frontier.json", strict_json.encode(found, indent=1), durable=False)
    files.write(out / "frontier.svg", figure(found), durable=False)


def figure(found: dict[str, Any]) -> str:
    """The metric of each arm against ε, as SVG; no privacy stands at the right end."""
    import io

    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "privity"  # the same figures, the same bytes
    metric = metric_named(found["metric"])
    assert metric
    rows = sorted(found["rows"], key=lambda row: (row["epsilon"] is None, row["epsilon"] or 0.0))
    places = range(len(rows))
    canvas, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    heights = {arm: [row["metrics"][arm][metric.name] for row in rows] for arm in ARMS}
    for arm, same_as in (("personal", "shared"), ("local", "base")):
        if heights[arm] == heights[same_as]:  # no personal adapter was fitted
            del heights[arm]
    for arm, values in heights.items():
        label = {"local": "personal adapter alone", "personal": "shared + personal"}.get(arm, arm)
        axes.plot(places, values, _STYLES[arm], marker="o", color=_COLOURS[arm], label=label)
    axes.set_xticks(places, [_level(row["epsilon"]) for row in rows])
    axes.set_xlabel(_AXES[found["guarantee"]])
    unit = f", {metric.unit}" if metric.unit else ""
    axes.set_ylabel(f"held-out {metric.label}{unit} ({metric.better} is better)")
    axes.set_ylim(0, 1.05 * max(map(max, heights.values())))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    stream = io.StringIO()
    canvas.savefig(stream, format="svg", metadata={"Date": None})
    plt.close(canvas)
    return stream.getvalue()


_STYLES = {"base": "--", "local": ":", "shared": "-", "personal": "-"}
_COLOURS = {"base": "C0", "local": "C1", "shared": "C2", "personal": "C3"}
_AXES = {
    "record": "ε of one example on its device, whole run",
    "user": "ε of all that one person contributes, whole run",
}


def _level(epsilon: float | None) -> str:
    return "no privacy" if epsilon is None else f"{epsilon:g}"
