"""One size of the load benchmark: server up, devices in, idle, rounds; what each phase took."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from common.console.say import say_aside
from common.errors import PrivityError
from common.rounds.outcomes import DONE
from server.deployment import figures
from server.deployment.place import Place
from server.registry.goal import maker_of_rounds, rounds_done
from server.registry.registry import entries
from simulations.evidence.benchmarks.deployment import operator, output_of
from simulations.evidence.benchmarks.load_devices import EXAMPLES, Invite, play
from simulations.evidence.benchmarks.process_watch import Watch, watching

PROCESSES = 2
ROUNDS = 3
READY_S, JOIN_S, CONNECT_S = 120.0, 300.0, 120.0  # bounds of the phases
ROUNDS_S, GRACE_S = 900.0, 60.0
COUNTS_S = 10.0
SETTLE_S = 20.0  # until devices that hear nothing look at their slowest pace
POLL = "/v1/fleet/pull-messages 200"


@dataclass(frozen=True, slots=True)
class Window:
    """What happened in some seconds: processor time by process, requests, bytes."""

    seconds: float
    cpu_s: Mapping[str, float]
    requests: int
    polls: int
    bytes_in: int
    bytes_out: int


@dataclass(slots=True)
class Outcome:
    """One size, measured.

    Attributes:
        lost_links: How often a device found the federation out of reach.
        pipelined: From the end of the first round to that of the last.
        whole: From before rounds were asked for to after the end, also of one that was not made;
            no request of a round is missing from its counts.
        failures: What ended devices for good.
        trouble: Why this size did not get through; empty where it did.
    """

    devices: int
    processes: int = PROCESSES
    wanted: int = ROUNDS
    enrolling_s: float = 0.0
    connecting_s: float = 0.0
    idle: Window | None = None
    rounds: list[float] = field(default_factory=list)
    least_survivors: int = 0
    pipelined: Window | None = None
    whole: Window | None = None
    peak_mb: Mapping[str, float] = field(default_factory=dict)
    lost_links: int = 0
    failures: list[str] = field(default_factory=list)
    trouble: str = ""

    @property
    def cold(self) -> bool:
        """Whether the first round was made."""
        return bool(self.rounds)


def run(devices: int, *, idle_s: float, rounds: int = ROUNDS) -> Outcome:
    """Measure one size; what goes wrong is the outcome's trouble.

    Raises:
        PrivityError: The federation did not even come up.
    """
    folder = Path(tempfile.mkdtemp(prefix="pv-load-"))
    outcome = Outcome(devices, wanted=rounds)
    try:
        with operator(folder / "fed", settings(devices, rounds)) as place:
            _measure(place, outcome, idle_s)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def settings(devices: int, rounds: int) -> dict[str, dict[str, object]]:
    """What differs from an operator's defaults; all devices share one address here."""
    return {
        "limits": {
            "connections": 10_000,
            "connections_per_address": 10_000,
            "connects_per_minute": 100_000,
        },
        "run": {
            "model": '"tiny"', "layers": 0, "examples": EXAMPLES,
            "users": devices, "rounds": rounds, "deadline_s": ROUNDS_S / 2,
        },
    }  # fmt: skip


def _measure(place: Place, outcome: Outcome, idle_s: float) -> None:
    lines = output_of(
        place.folder, "server", "invite", "--dir", ".", "--count", str(outcome.devices)
    )
    words = [line.split() for line in lines.splitlines()]
    invites = [(address, code, finger) for _, _, address, code, _, finger in words]
    with (
        _crowds(invites, outcome) as crowds,
        watching(lambda: _processes(place) | crowds.pids()) as watch,
    ):
        try:
            crowds.step(READY_S, "the devices' processes are not ready")
            outcome.enrolling_s = crowds.step(JOIN_S, "not all devices joined")
            outcome.connecting_s = crowds.step(CONNECT_S, "not all devices connected")
            outcome.idle = _idle(place, watch, idle_s)
            _rounds(place, watch, outcome)
        except PrivityError as error:
            outcome.trouble = error.message
        outcome.peak_mb = watch.peak_mb()


def _idle(place: Place, watch: Watch, idle_s: float) -> Window:
    say_aside("  idle")
    time.sleep(SETTLE_S)
    gauge = Gauge(place, watch)
    time.sleep(idle_s)
    return gauge.window()


def _rounds(place: Place, watch: Watch, outcome: Outcome) -> None:
    """Make the rounds; the window opens when the first has its outcome."""
    whole = Gauge(place, watch)
    output_of(place.folder, "server", "run", "--dir", ".", "--no-wait")
    end, gauge, done = time.monotonic() + ROUNDS_S, None, 0
    while done < outcome.wanted and time.monotonic() < end:
        time.sleep(0.1)
        if (now := rounds_done(place.federation)) > done:
            done = now
            say_aside(f"  round {done}")
            gauge = gauge or Gauge(place, watch)
            if done > 1:
                outcome.pipelined = gauge.window()
    _await_counts(place)
    outcome.whole = whole.window()
    made = entries(place.federation / "server")
    finished = [one for one in made if one.status == DONE]
    outcome.rounds = [one.seconds for one in finished]
    outcome.least_survivors = min((one.survivors for one in finished), default=0)
    if len(finished) < outcome.wanted:
        abandoned = len(made) - len(finished)
        outcome.trouble = f"{abandoned} rounds abandoned, not all made in {ROUNDS_S:.0f} s"


def _await_counts(place: Place) -> None:
    """Wait until the gateway has written its counts once more, or writes no more."""
    file, begin, end = place.log / figures.GATEWAY, time.time(), time.monotonic() + COUNTS_S
    while file.exists() and file.stat().st_mtime <= begin and time.monotonic() < end:
        time.sleep(0.1)


class Gauge:
    """Counts since it was made."""

    def __init__(self, place: Place, watch: Watch) -> None:
        self._place, self._watch, self._since = place, watch, time.monotonic()
        self._cpu_s, self._counts = watch.cpu_s(), self._read()

    def window(self) -> Window:
        """What has happened since; the gateway's counts are up to two seconds late."""
        seconds, cpu_s = time.monotonic() - self._since, self._watch.cpu_s()
        spent = {name: total - self._cpu_s.get(name, 0.0) for name, total in cpu_s.items()}
        pairs = zip(self._counts, self._read(), strict=True)
        return Window(seconds, spent, *(after - before for before, after in pairs))

    def _read(self) -> tuple[int, int, int, int]:
        found = figures.read(self._place.log / figures.GATEWAY)
        answers, traffic = found.get("answers", {}), found.get("bytes", {})
        return (
            sum(answers.values()), answers.get(POLL, 0),
            traffic.get("in", 0), traffic.get("out", 0),
        )  # fmt: skip


def _processes(place: Place) -> dict[str, int]:
    """The server's processes by name."""
    parts = figures.read(place.log / figures.PARTS)
    found = {name: part["pid"] for name, part in parts.items() if part["pid"]}
    found["up"] = int((place.folder / "up.lock").read_text())
    if maker := maker_of_rounds(place.federation):
        found["serverapp"] = maker
    return found


@dataclass(slots=True)
class Crowds:
    """Processes full of devices."""

    parts: Sequence[tuple[BaseProcess, Connection]]

    def pids(self) -> dict[str, int]:
        """By one name, so that what they take is summed."""
        return {f"devices {at}": int(one.pid or 0) for at, (one, _) in enumerate(self.parts)}

    def step(self, within_s: float, trouble: str) -> float:
        """Let all take the next step at once; seconds until all have.

        Raises:
            PrivityError: They have not within `within_s`.
        """
        begin = time.monotonic()
        try:
            for _, connection in self.parts:
                connection.send(None)
            for _, connection in self.parts:
                left_s = begin + within_s - time.monotonic()
                if not connection.poll(max(0.0, left_s)) or not isinstance(connection.recv(), int):
                    raise PrivityError(f"{trouble} in {within_s:.0f} s")
        except (EOFError, OSError):
            raise PrivityError(f"{trouble}: a process of theirs ended") from None
        return time.monotonic() - begin


@contextlib.contextmanager
def _crowds(invites: Sequence[Invite], outcome: Outcome) -> Iterator[Crowds]:
    context = get_context("spawn")
    parts = []
    for at in range(outcome.processes):
        ours, theirs = context.Pipe()
        process = context.Process(target=play, args=(theirs, invites[at :: outcome.processes]))
        process.daemon = True
        process.start()
        theirs.close()
        parts.append((process, ours))
    try:
        yield Crowds(parts)
    finally:
        for _, connection in parts:
            with contextlib.suppress(OSError):
                connection.send(None)
        for process, connection in parts:
            said = _last_words(connection)
            outcome.lost_links += said.get("lost_links_count", 0)
            outcome.failures += said.get("failures", [])
            connection.close()
            process.join(GRACE_S)
            process.kill()


def _last_words(connection: Connection) -> dict[str, Any]:
    """What a process says when it ends; empty where it says nothing in time."""
    with contextlib.suppress(EOFError, OSError):
        while connection.poll(GRACE_S):
            if isinstance(said := connection.recv(), dict):
                return said
    return {}
