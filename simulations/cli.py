"""`privity-sim`: simulate a federation, list the scenarios, measure."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.console.command_line import Parser, run_command
from common.console.say import say, say_aside
from common.errors import InputError
from common.settings import (
    GROUPS,
    LABELS,
    LABELS_WITHOUT_DP,
    TABLE,
    TAGS_WITHOUT_DP,
    USER_LEVEL,
    WITHOUT_DP,
    Settings,
    defaults,
    from_mapping,
    require_none_in_vain,
)
from common.settings.field import option
from common.tasks import TASKS
from common.visible import visible


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 our fault, 2 the input's, 130 interrupted."""
    return run_command(_parser, arguments, _continuation)


def _continuation(arguments: Sequence[str]) -> str:
    """How to go on with what was interrupted, if it can be."""
    command = next(iter(arguments), "")
    ways = {"run": "--out DIR --resume", "frontier": "--out DIR"}
    return f"; continue with the same command and {ways[command]}" if command in ways else ""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="privity-sim", description="Simulate a private federation of people.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _run_command(commands)
    _frontier_command(commands)
    listing = commands.add_parser("scenarios", help="list the built-in data sets")
    listing.set_defaults(action=_scenarios)
    _people_command(commands)
    bench = commands.add_parser("bench", help="measure against peers and limits")
    bench.add_argument(
        "name", choices=("secagg", "dp", "chat", "rounds", "load", "memory"), help="what to measure"
    )
    bench.add_argument(
        "--data", type=Path, metavar="FILE", help="what memory is measured on: LoCoMo's JSON"
    )
    bench.add_argument("--json", action="store_true", help="one JSON object on stdout")
    bench.add_argument("--quick", action="store_true", help="small sizes, for a first look")
    bench.set_defaults(action=_bench)
    attacks = commands.add_parser("attacks", help="attack secure sums: Flower's and ours")
    attacks.add_argument("--json", action="store_true", help="one JSON object on stdout")
    attacks.set_defaults(action=_attacks)
    _audit_command(commands)
    return parser


def _run_command(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="run a federation and report what it gave to whom, and its cost in privacy",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"With --no-dp, what is not given becomes: {_spelled(WITHOUT_DP)}.\n"
        f"With --no-dp --user-epsilon: {_spelled(USER_LEVEL)}.\n"
        f"With --task classify or tag: {_spelled(LABELS)}.\n"
        f"With --task classify and --no-dp: {_spelled(LABELS_WITHOUT_DP)}.\n"
        f"With --task tag and --no-dp: {_spelled(TAGS_WITHOUT_DP)}.",
    )
    _add_settings(run)
    run.add_argument("--out", default="", metavar="DIR", help="results (default: runs/<time>)")
    run.add_argument("--resume", action="store_true", help="continue the run in --out")
    run.add_argument("--quiet", action="store_true", help="print nothing but errors")
    run.set_defaults(action=_run)


def _frontier_command(commands: Any) -> None:
    frontier = commands.add_parser(
        "frontier", help="quality against ε over several seeds, with a figure"
    )
    _add_settings(frontier, without=("seed", "dp", "epsilon", "user_epsilon"))
    frontier.add_argument(
        "--guarantee", choices=("record", "user"), default="record",
        help="which guarantee the levels are of (default: %(default)s)",
    )  # fmt: skip
    frontier.add_argument(
        "--epsilons", default="1,2,4,8,16,none", help="levels (default: %(default)s)"
    )
    frontier.add_argument("--seeds", default="0,1,2", help="seeds (default: %(default)s)")
    frontier.add_argument("--out", required=True, metavar="DIR", help="results; may be continued")
    frontier.add_argument("--quiet", action="store_true", help="print nothing but errors")
    frontier.set_defaults(action=_frontier)


def _people_command(commands: Any) -> None:
    people = commands.add_parser(
        "people", help="make a folder for --data of a data set: CoNLL files, or CSV with labels"
    )
    people.add_argument("files", nargs="+", metavar="FILE", help="CoNLL columns, or .csv")
    people.add_argument("--out", required=True, metavar="DIR", help="one <user>.jsonl each")
    people.add_argument(
        "--users", type=_positive, default=0, metavar="INT",
        help="people that each file is dealt among (default: one a file)",
    )  # fmt: skip
    people.add_argument(
        "--skew", type=_above_zero, default=0.5, metavar="FLOAT",
        help="the smaller, the more of a CSV file's label has one person (default: %(default)s)",
    )  # fmt: skip
    people.add_argument("--text", default="text", metavar="COLUMN", help="default: %(default)s")
    people.add_argument("--label", default="label", metavar="COLUMN", help="default: %(default)s")
    people.add_argument("--seed", type=int, default=0, metavar="INT", help="default: %(default)s")
    people.set_defaults(action=_people)


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def _above_zero(text: str) -> float:
    if not 0 < (number := float(text)) < math.inf:
        raise ValueError
    return number


def _audit_command(commands: Any) -> None:
    audit = commands.add_parser(
        "audit", help="try to refute every privacy claim; exit code 1 when one is refuted"
    )
    audit.add_argument("--quick", action="store_true", help="smaller, and faster")
    audit.add_argument(
        "--variant", default="all", metavar="NAME",
        help="one system broken on purpose, `all` of them, or `none` (default: %(default)s)",
    )  # fmt: skip
    audit.add_argument(
        "--task", default=Settings().task.name, metavar="NAME",
        help="what the audited devices learn (default: %(default)s)",
    )  # fmt: skip
    audit.add_argument("--seed", type=int, default=0, metavar="INT", help="default: %(default)s")
    audit.add_argument("--json", action="store_true", help="one JSON object on stdout")
    audit.add_argument("--out", default="", metavar="DIR", help="keep audit.json and audit.html")
    audit.set_defaults(action=_audit)


def _add_settings(parser: argparse.ArgumentParser, without: tuple[str, ...] = ()) -> None:
    groups = {name: parser.add_argument_group(kind.ABOUT) for name, kind in GROUPS.items()}
    for name, setting in TABLE.items():
        if name not in ("dp", "out", *without):
            _add_setting(groups[setting.group], name, setting.field)
    if "dp" not in without:
        help_ = "switch record-level privacy off"
        groups[TABLE["dp"].group].add_argument("--no-dp", action="store_true", help=help_)


def _add_setting(parser: Any, name: str, field: dataclasses.Field[Any]) -> None:
    if isinstance(field.default, bool):
        parser.add_argument(option(name), action="store_const", const=True, help=_described(field))
        return
    shown = f" (default: {field.default})" if field.default != "" else ""
    parser.add_argument(
        option(name),
        type=type(field.default),
        default=None,
        metavar=type(field.default).__name__.upper(),
        help=_described(field).replace("%", "%%") + shown,
    )


def _described(field: dataclasses.Field[Any]) -> str:
    choices = field.metadata["choices"]
    known = f": {', '.join(str(choice) for choice in choices)}" if choices else ""
    return str(field.metadata["help"]) + known


def _spelled(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{option(name)} {value}" if value != "" else f"{option(name)}="
        for name, value in values.items()
    )


def _given(options: argparse.Namespace) -> dict[str, Any]:
    found = {name: getattr(options, name, None) for name in TABLE if name not in ("dp", "out")}
    return {name: value for name, value in found.items() if value is not None}


def _settings(options: argparse.Namespace) -> Settings:
    given = _given(options)
    if options.no_dp and {"epsilon", "delta"} & given.keys():
        problem = "--no-dp and --epsilon/--delta contradict each other."
        raise InputError(problem, "Give one or the other.")
    _one_source(given)
    dp, task = not options.no_dp, given.get("task", Settings().task.name)
    basis = {}
    if task in TASKS:  # else it is refused with those that there are
        basis = defaults(task=task, dp=dp, user_epsilon=given.get("user_epsilon", 0.0))
    settings = from_mapping(basis | given | {"dp": dp})
    require_none_in_vain(settings, given)
    return settings


def _one_source(given: dict[str, Any]) -> None:
    """Either a scenario or a folder, whose people are all taken unless a number is given."""
    if "data" in given and "scenario" in given:
        raise InputError("--data and --scenario contradict each other.", "Give one of them.")
    if "data" in given:
        given["data"] = os.path.abspath(given["data"])  # noqa: PTH100
        given.setdefault("users", 0)
    if os.path.isdir(given.get("model", "")):  # noqa: PTH112
        given["model"] = os.path.abspath(given["model"])  # noqa: PTH100


def _run(options: argparse.Namespace) -> int:
    if options.resume and not options.out:
        raise InputError("--resume needs --out DIR.", "Name the folder of the interrupted run.")
    from simulations import run as runs

    if options.resume:
        settings = _resumed(options, runs.stored_settings(Path(options.out)))
    else:
        settings = runs.resolve(_settings(options))  # first: who is refused leaves no folder
        out = Path(options.out or runs.fresh_folder()).absolute()
        settings = settings.but(out=str(out))
    return _execute(settings, options)


def _resumed(options: argparse.Namespace, stored: Settings) -> Settings:
    """The stored run's settings; what was given again must be the same.

    Raises:
        InputError: Naming a setting that differs.
    """
    given = _given(options) | ({"dp": False} if options.no_dp else {})
    _one_source(given)
    values = stored.to_dict()
    for name, value in given.items():
        if values[name] != value and (name, value) != ("users", 0):
            problem = f"The run in {options.out} has {name} {values[name]}, not {value}."
            raise InputError(problem, "Resume it with the settings it was started with.")
    return stored


def _execute(settings: Settings, options: argparse.Namespace) -> int:
    from simulations import run as runs
    from simulations.devices import own_labels, unread_kinds
    from simulations.report.display import Display

    if not options.resume:
        runs.prepare(settings)
    display = Display(quiet=options.quiet)
    display.opening(settings)
    display.unread(unread_kinds(settings))
    display.unlearnt(own_labels(settings))
    report = runs.run(settings, display)
    display.closing(report, settings.simulation.out)
    return _said_if_nothing_came_of_it(report["rounds_log"])


def _said_if_nothing_came_of_it(log: Sequence[dict[str, Any]]) -> int:
    """The exit code: 1 where every round was abandoned, with the reason of the last."""
    from simulations.report.report import nothing_learnt

    if problem := nothing_learnt(log):
        say_aside(f"privity-sim: {problem}")
    return int(bool(problem))


def _frontier(options: argparse.Namespace) -> int:
    from simulations.evidence import frontier
    from simulations.report.display import Display

    seeds = frontier.parse_seeds(options.seeds)
    levels = frontier.parse_levels(options.epsilons)
    display = Display(quiet=options.quiet)
    given = _given(options)
    _one_source(given)
    found = frontier.frontier(
        given, seeds, levels, Path(options.out), display, guarantee=options.guarantee
    )
    display.frontier(found, options.out)
    for problem in found["nothing_learnt"]:
        say_aside(f"privity-sim: {problem}")
    return int(bool(found["nothing_learnt"]))


def _scenarios(_: argparse.Namespace) -> int:
    from simulations.devices import SCENARIOS

    for name, scenario in SCENARIOS.items():
        say(f"{name:12} {scenario.DESCRIPTION}")
    say("--data DIR   your own people, one <user>.jsonl each (docs/records.md)")
    return 0


def _people(options: argparse.Namespace) -> int:
    from simulations.scenarios.dealing import deal

    names = "users", "skew", "text", "label", "seed"
    chosen = {name: getattr(options, name) for name in names}
    sources = [Path(file) for file in options.files]
    for name, records in deal(sources, Path(options.out), **chosen).items():
        say(f"{visible(name)}: {records:,} records")
    say(f"Next: privity-sim run --data {visible(options.out)} --task …")
    return 0


def _bench(options: argparse.Namespace) -> int:
    from simulations.evidence.benchmarks import run_benchmark

    run_benchmark(options.name, as_json=options.json, quick=options.quick, data=options.data)
    return 0


def _attacks(options: argparse.Namespace) -> int:
    from common.console.tables import console
    from common.system import strict_json
    from simulations.evidence.attacks import as_json, run_attacks, show

    with console(stderr=True).status("Attacking both systems, a minute at most."):
        rows = run_attacks()
    if options.json:
        say(strict_json.encode(as_json(rows)))
    else:
        show(rows)
    return 0


def _audit(options: argparse.Namespace) -> int:
    from simulations.evidence.audit import audit

    return audit(
        quick=options.quick,
        variant=options.variant,
        task=options.task,
        seed=options.seed,
        as_json=options.json,
        out=options.out,
    )
