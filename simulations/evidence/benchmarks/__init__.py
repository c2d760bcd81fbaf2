"""What the product's hot paths cost, beside a peer and a limit measured in the same run.

`docs` may quote a figure only from here. Every figure has its unit at the end of its key; ratios
have none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from common.console.say import say, say_aside
from common.console.tables import console, show_table
from common.errors import InputError
from common.system import strict_json
from simulations.evidence.benchmarks.machine import machine, versions
from simulations.evidence.benchmarks.timing import Row

__all__ = ["NAMES", "measure", "run_benchmark"]

NAMES = ("secagg", "dp", "chat", "rounds", "load", "memory")
WITH_DATA = ("memory",)


def run_benchmark(name: str, *, as_json: bool, quick: bool, data: Path | None = None) -> None:
    """Measure and write to stdout: one JSON object, or tables.

    Raises:
        InputError: There is no such benchmark, or it reads no data.
    """
    if data is not None and name not in WITH_DATA:
        raise InputError(f"--data changes nothing about {name!r}.", "Leave it out.")
    with Console(stderr=True).status(f"Measuring {name}; other work on this machine disturbs it."):
        result = measure(name, quick=quick, data=data)
    if as_json:
        say(strict_json.encode(result))
    else:
        _show(result)


def measure(name: str, *, quick: bool, data: Path | None = None) -> dict[str, Any]:
    """`{"name", "machine", "versions", "rows"}`; a row is a `Row`.

    Raises:
        InputError: There is no such benchmark.
    """
    surroundings = {"machine": machine(), "versions": versions()}  # before our own load
    rows = []
    for row in _rows(name, data)(quick):
        rows.append(dataclasses.asdict(row))
        say_aside(f"  {row.case}: {strict_json.encode(row.ours)}")  # a long run may be cut short
    return {"name": name, **surroundings, "rows": rows}


def _rows(name: str, data: Path | None) -> Callable[[bool], Iterator[Row]]:
    if name == "secagg":
        from simulations.evidence.benchmarks import secagg

        return secagg.rows
    if name == "dp":
        from simulations.evidence.benchmarks import dp

        return dp.rows
    if name == "chat":
        from simulations.evidence.benchmarks import chat

        return chat.rows
    if name == "rounds":
        from simulations.evidence.benchmarks import rounds

        return rounds.rows
    if name == "load":
        from simulations.evidence.benchmarks import load

        return load.rows
    if name == "memory":
        from simulations.evidence.benchmarks import memory

        return partial(memory.rows, data)
    raise InputError(f"There is no benchmark {name!r}.", f"Choose one of: {', '.join(NAMES)}.")


def _show(result: dict[str, Any]) -> None:
    out = console()
    facts = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    out.print(f"{result['name']} on {facts}")
    for row in result["rows"]:
        _show_row(out, row)
        ratios = (f"{key} {value:.3g}" for key, value in row["ratios"].items())
        out.print(" · ".join(ratios))


def _show_row(out: Console, row: dict[str, Any]) -> None:
    """Figures down, who across."""
    columns = {"ours": row["ours"], **row["peers"], "limit": row["limit"]}
    columns = {who: figures for who, figures in columns.items() if figures}
    rows = [
        [key, *(_shown(figures.get(key)) for figures in columns.values())]
        for key in _keys(columns.values())
    ]
    title = f"{row['case']} ({row['data']})"
    show_table(out, ("median", *columns), rows, title=title, figures=tuple(columns))


def _keys(all_figures: Any) -> Iterator[str]:
    yield from dict.fromkeys(key for figures in all_figures for key in figures)


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
