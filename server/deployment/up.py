"""A whole deployment: SuperLink, superexec and gateway as processes, and the rounds asked for."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from common.errors import InputError, PrivityError
from common.rounds.run_folder import FEDERATION, run_name, run_seed
from common.system.files import has_room
from common.system.processes import python
from common.system.signals import ending
from server.deployment import figures
from server.deployment.conductor import Conductor
from server.deployment.journal import Journal
from server.deployment.place import Place
from server.deployment.renewal import Renewal
from server.deployment.superlink import Control, flower_place, is_up, nodes_of
from server.deployment.supervisor import Part, PartFailedError, Supervisor
from server.registry.goal import maker_of_rounds
from server.registry.registry import SPARE_BYTES
from server.round.follower import FAILED, Follower

LOG, LOCK = "privity.log", "up.lock"
TEND_S = 0.5


def up(place: Place, *, as_json: bool = False, ended: threading.Event | None = None) -> None:
    """Bring the federation up and keep it up until SIGTERM, SIGINT, SIGHUP or `ended`.

    SIGHUP is what a terminal sends that is closed: nothing is left running without one either.

    Raises:
        InputError: It is up already, or a setting is wrong.
        PrivityError: A part of it does not start.
    """
    ended = ended or threading.Event()
    with _only_one(place.folder), _signals(ended):
        place.renew(place.settings().gateway.names)
        for kept in (run_name, run_seed):  # now, not when a disk may be full
            kept(place.federation)
        journal = Journal(place.log / LOG, as_json=as_json)
        try:
            _serve(place, journal, ended)
        finally:
            journal.close()


def _serve(place: Place, journal: Journal, ended: threading.Event) -> None:
    supervisor = Supervisor(parts(place), journal)
    control: Control | None = None
    for left in (place.log / figures.GATEWAY, place.log / figures.ROUNDS, place.desk_socket):
        left.unlink(missing_ok=True)  # by one that was killed
    try:
        try:
            supervisor.start(ended)
        except PartFailedError as error:
            raise PrivityError(error.message, f"See {place.log / LOG}.") from None
        if ended.is_set():
            return
        control = Control(flower_place(place))
        _settle(place, journal)
        journal.write("up", "ready")
        _tend(place, supervisor, control, journal, ended)
    finally:
        journal.write("up", "shutting down")
        _end_rounds(place.federation)
        supervisor.stop()
        for noted in (figures.PARTS, figures.ROUNDS):
            (place.log / noted).unlink(missing_ok=True)
        if control:
            control.close()


def parts(place: Place) -> list[Part]:
    """The processes, in the order in which they start."""
    flower = flower_place(place)
    flower.home.mkdir(mode=0o700, exist_ok=True)
    environment = flower.environment() | {FEDERATION: str(place.federation)}
    desk, gateway, dashboard = (
        python(f"server.{module}", str(place.folder))
        for module in ("deployment.desk_process", "deployment.gateway_process", "dashboard.process")
    )
    shown = Part("dashboard", dashboard, environment, flower.home)  # nothing waits for it
    return [
        Part("desk", desk, environment, flower.home, place.desk_socket.exists),
        Part("superlink", flower.superlink(), environment, flower.home, lambda: is_up(place)),
        Part("superexec", flower.superexec(), environment, flower.home, parent=True),
        Part("gateway", gateway, environment, flower.home, (place.log / figures.GATEWAY).exists),
        *([shown] if place.settings().dashboard.port else []),
    ]


def _settle(place: Place, journal: Journal) -> None:
    enrolment = place.enrolment()
    try:
        for member in enrolment.settle(nodes_of(place).unregister):
            journal.write("up", f"member {member} is gone and was unregistered")
    finally:
        enrolment.close()


def _tend(
    place: Place,
    supervisor: Supervisor,
    control: Control,
    journal: Journal,
    ended: threading.Event,
) -> None:
    conductor = Conductor(
        place.federation, control, place.run, lambda words: journal.write("rounds", words)
    )
    renewal = Renewal(place, supervisor, lambda words: journal.write("up", words))
    said, waits, rounds = "", "", Follower.from_now(place.federation)
    seen: dict[str, dict[str, int | None]] = {}
    while not ended.wait(TEND_S):
        supervisor.tend()
        renewal.tend()
        for line in rounds.lines():
            journal.write("rounds", line)
            if line.startswith(FAILED):
                conductor.last_words = line
        if (now := supervisor.figures()) != seen:
            figures.keep(place.log / figures.PARTS, seen := now)
        try:
            _require_room(place.federation)
            conductor.tend()
            said = ""
        except (PrivityError, OSError) as error:  # the SuperLink is being restarted, for example
            if str(error) != said:
                journal.write("up", str(error))
            said = str(error)
        if (now_waits := said or conductor.why) != waits:
            figures.keep(place.log / figures.ROUNDS, {figures.WAITS: now_waits})
            waits = now_waits
    conductor.end()


def _require_room(folder: Path) -> None:
    if not has_room(folder, SPARE_BYTES):
        raise PrivityError(f"There is no room on the disk of {folder}.", "Rounds wait for some.")


def _end_rounds(folder: Path) -> None:
    """Flower starts the ServerApp in a session of its own, out of the supervisor's reach."""
    if maker := maker_of_rounds(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(maker, signal.SIGTERM)


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    with (folder / LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read() or "unknown"
            raise InputError(
                f"The federation in {folder} is up already (process {owner}).",
                "End that one first.",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextlib.contextmanager
def _signals(ended: threading.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, lambda *_: ended.set()) for one in ending()}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
