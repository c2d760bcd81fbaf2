"""What processes of a deployment took so far: processor time and peak memory (Linux).

Figures of a process are kept when it has ended, as they were last seen.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

EVERY_S = 0.25
TICKS_S = 1 / os.sysconf("SC_CLK_TCK")
IDLE_COLUMNS = (3, 4)  # of /proc/stat: idle and waiting for a disk
MIB_KIB = 1024


@dataclass(slots=True)
class Watch:
    """Looks at the processes that `who` names, every quarter of a second.

    Attributes:
        who: Process ids by name; what comes after a space tells those of one name apart.
    """

    who: Callable[[], Mapping[str, int]]
    _cpu_s: dict[tuple[str, int], float] = field(default_factory=dict)
    _peak_mb: dict[tuple[str, int], float] = field(default_factory=dict)

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds by name, of all processes that had it; `machine`: of everything."""
        self.look()
        total = {"machine": machine_cpu_s()}
        for (full, _), spent in list(self._cpu_s.items()):
            name = full.partition(" ")[0]
            total[name] = total.get(name, 0.0) + spent
        return total

    def peak_mb(self) -> dict[str, float]:
        """The highest resident memory by name."""
        peaks: dict[str, float] = {}
        for (name, _), peak in list(self._peak_mb.items()):
            peaks[name] = max(peaks.get(name, 0.0), peak)
        return peaks

    def look(self) -> None:
        """Read /proc once."""
        for name, process in self.who().items():
            with contextlib.suppress(OSError):
                self._cpu_s[name, process] = _cpu_s(process)
                self._peak_mb[name, process] = _peak_mb(process)


@contextlib.contextmanager
def watching(who: Callable[[], Mapping[str, int]]) -> Iterator[Watch]:
    """A `Watch` that looks by itself until the end of the block."""
    watch, ended = Watch(who), threading.Event()

    def look() -> None:
        while not ended.wait(EVERY_S):
            watch.look()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()


def machine_cpu_s() -> float:
    """Processor seconds of all cores and of everybody since the machine was started."""
    ticks = [int(one) for one in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return TICKS_S * (sum(ticks) - sum(ticks[column] for column in IDLE_COLUMNS))


def _cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return TICKS_S * (int(fields[11]) + int(fields[12]))  # proc(5): utime, stime


def _peak_mb(process: int) -> float:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / MIB_KIB
    return 0.0
