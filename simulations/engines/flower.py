"""Run the two apps in Flower's own simulation runtime (Ray) and wait for its verdict.

Everything is public Flower: a private SuperLink on loopback, `flwr run --stream` to wait,
`flwr ls` for the verdict. The SuperLink, its FLWR_HOME and Ray's files live in a temporary folder
and end with the call. The bundle that Flower ships holds no code: the installed package runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from common.errors import InputError, PrivityError
from common.rounds.bundle import manifest
from common.settings import RoundSettings, Settings
from common.system import quiet
from common.system.processes import environment, script
from simulations.report.display import Display
from simulations.report.watching import attempts_made, round_watch

CONNECTION = "sim"
LONGEST_PLACE = 24  # bytes; Ray adds 83 to it, and an address has at most 107
POLL_S, HEALTH_ANSWER_S = 0.5, 5.0
COMPLETED = "finished:completed"


@dataclass(frozen=True, slots=True)
class _Place:
    """One simulation's temporary folder, environment and port."""

    base: Path
    port: int
    environment: dict[str, str]


def simulate_with_flower(settings: Settings, display: Display) -> None:
    """Run the rounds that are left in Flower's simulation runtime.

    Raises:
        PrivityError: With Flower's own words, when the run did not complete.
    """
    left = settings.rounds.count - attempts_made(settings.simulation)
    with _place(settings) as place, _superlink(place), round_watch(settings, display, left):
        _flwr_run(place, settings.rounds)
        status, details = _verdict(place)
    if status != COMPLETED:
        raise PrivityError(f"Flower's simulation ended as {status}: {details}")


@contextlib.contextmanager
def _place(settings: Settings) -> Iterator[_Place]:
    """Temporary folders for one simulation."""
    base, port = _temporary_folder(), _free_port()
    own = quiet.flower(base / "home") | quiet.RAY | {"RAY_TMPDIR": str(base / "r")}
    for folder in ("home", "r", "cwd", "app"):
        (base / folder).mkdir()
    (base / "home/config.toml").write_text(
        f'[superlink]\ndefault = "{CONNECTION}"\n\n'
        f'[superlink.{CONNECTION}]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    (base / "app/pyproject.toml").write_text(manifest(settings), encoding="utf-8")
    try:
        yield _Place(base, port, environment(own))
    finally:
        _end_processes_of(base)
        shutil.rmtree(base, ignore_errors=True)


def _temporary_folder() -> Path:
    """Where Ray can put its Unix sockets, whose addresses are short; TMPDIR may be too long."""
    places = [Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108
    for place in places:
        if len(os.fsencode(place)) <= LONGEST_PLACE and os.access(place, os.W_OK):
            return Path(tempfile.mkdtemp(prefix="pv-", dir=place))
    problem = f"The folder for temporary files has too long a name for Ray: {places[0]}."
    raise InputError(problem, f"Set TMPDIR to one of at most {LONGEST_PLACE} bytes.")


@contextlib.contextmanager
def _superlink(place: _Place) -> Iterator[None]:
    """A SuperLink of our own; its working folder is empty."""
    arguments = ("--insecure", "--simulation", "--isolation", "subprocess")
    address = ("--host", "127.0.0.1", "--port", str(place.port))
    log = place.base / "superlink.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            script("flower-superlink", *arguments, *address),
            cwd=place.base / "cwd",
            env=place.environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_until_healthy(place.port, process, log)
            yield
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)


def _flwr_run(place: _Place, rounds: RoundSettings) -> None:
    cpus = os.cpu_count() or 1
    federation = (
        f"num-supernodes={rounds.users} init-args-num-cpus={cpus} "
        "init-args-log-to-driver=false client-resources-num-cpus=1 client-resources-num-gpus=0.0"
    )
    app = str(place.base / "app")
    command = script("flwr", "run", app, CONNECTION, "--stream")
    finished = subprocess.run(
        [*command, "--federation-config", federation],
        cwd=place.base / "cwd",
        env=place.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:  # refused; a run that failed still exits with 0
        raise PrivityError(f"Flower refused the run: {finished.stderr.strip()[-500:]}")


def _verdict(place: _Place) -> tuple[str, str]:
    listed = subprocess.run(
        script("flwr", "ls", CONNECTION, "--format", "json"),
        cwd=place.base / "cwd",
        env=place.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    last = json.loads(listed.stdout)["runs"][0]
    return str(last["status"]), str(last["status-details"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """However long that takes, as long as it lives."""
    while process.poll() is None:
        try:
            return _require_healthy(port)
        except httpx.HTTPError:
            time.sleep(POLL_S)
    raise PrivityError(f"flower-superlink ended at once: {log.read_text()[-500:]}")


def _require_healthy(port: int) -> None:
    url = f"http://127.0.0.1:{port}/health"
    httpx.get(url, timeout=HEALTH_ANSWER_S, trust_env=False).raise_for_status()


def _end_processes_of(base: Path) -> None:
    """End what the SuperLink started: the process groups of whatever carries our FLWR_HOME (Linux).

    Groups, because Ray's helpers overwrite their environment and would be missed.
    """
    mark = f"FLWR_HOME={base / 'home'}".encode()
    groups = {g for g, environ in _processes() if mark in environ.split(b"\0")} - {os.getpgrp()}
    for signum, wait in ((signal.SIGTERM, 8.0), (signal.SIGKILL, 2.0)):
        alive = groups & {g for g, _ in _processes()}
        for group in alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signum)
        end = time.monotonic() + wait
        while alive & {g for g, _ in _processes()} and time.monotonic() < end:
            time.sleep(0.1)


def _processes() -> list[tuple[int, bytes]]:
    """Process group and environment of every process of ours that is not a zombie."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if state != "Z":
                    found.append((int(group), (entry / "environ").read_bytes()))
    return found
