"""How a figure is measured: interleaved repeats, medians, and memory in a process of its own."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import ParamSpec, TypeVar

Figures = dict[str, float]
P = ParamSpec("P")
T = TypeVar("T")

_STATUS = Path("/proc/self/status")
_RESET_PEAK = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class Row:
    """One case: our figures, the peers' and the limit's, and the ratios between them.

    `data` says what was measured on. Keys of figures end with their unit.
    """

    case: str
    data: str
    ours: Figures
    peers: dict[str, Figures]
    limit: Figures
    ratios: Figures


def interleaved(tasks: Mapping[str, Callable[[], Figures]], repeats: int) -> dict[str, Figures]:
    """Medians of what each task reports, over `repeats` passes after one to warm up.

    Each pass runs every task once, so that what else the machine does falls on all of them.
    """
    for task in tasks.values():
        task()
    passes = [{name: task() for name, task in tasks.items()} for _ in range(repeats)]
    return {name: _medians([one[name] for one in passes]) for name in tasks}


def _medians(samples: list[Figures]) -> Figures:
    return {key: median(sample[key] for sample in samples) for key in samples[0]}


def seconds(task: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> float:
    """Wall-clock seconds of one call."""
    start = perf_counter()
    task(*args, **kwargs)
    return perf_counter() - start


def in_own_process(task: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a module-level function returns when it is called in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(task, *args, **kwargs).result()


def memory(task: Callable[[], object]) -> Figures:
    """Peak resident memory while `task` runs, and how far that is above what was held before.

    Where the system cannot forget an earlier peak, that one counts too; call it first in a fresh
    process.
    """
    with suppress(OSError):
        _RESET_PEAK.write_text("5")  # proc(5): the peak restarts at what is resident now
    before = _peak_mb()
    task()
    peak = _peak_mb()
    return {"peak_rss_mb": peak, "peak_extra_mb": peak - before}


def _peak_mb() -> float:
    """The highest resident memory so far, in units of 1024² bytes."""
    if _STATUS.exists():  # Linux's getrusage hands a parent's peak down to its child
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024**2 if sys.platform == "darwin" else peak / 1024
