"""The engines run the same two apps: the same keys and people give the same adapter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_up_people import Runner, write_people


@pytest.mark.long
def test_flowers_own_runtime_publishes_the_same_adapters(run: Runner, tmp_path: Path) -> None:
    """Bit for bit: member ids and the order of answers differ, sums of integers do not."""
    data = write_people(tmp_path / "people", 4)
    options = ("--rounds", "2", "--learning-rate", "5")
    here = run(data, "local", *options)
    there = run(data, "flower", *options, "--engine", "flower")
    adapters = [[entry["adapter_sha256"] for entry in r["rounds_log"]] for r in (here, there)]
    assert adapters[0] == adapters[1]
    assert here["metrics"] == there["metrics"]
    assert leftovers(tmp_path) == []


def leftovers(folder: Path) -> list[str]:
    """Processes of Flower or Ray that are still there."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if "flower-superlink" in line]


@pytest.mark.long
def test_flwr_run_runs_the_two_apps(tmp_path: Path) -> None:
    """`flwr run .` as the README gives it, with a run configuration of one's own."""
    from simulations.engines.flower import QUIET

    data = write_people(tmp_path / "people", 3)
    repository = Path(__file__).parents[1]
    home, out = tmp_path / "home", tmp_path / "out"
    home.mkdir()
    config = f"data='{data}' users=3 model='tiny' examples=8 rounds=1 out='{out}'"
    environment = os.environ | QUIET | {"FLWR_HOME": str(home)}
    scripts = Path(sys.executable).parent
    environment["PATH"] = f"{scripts}{os.pathsep}{environment['PATH']}"
    command = [str(scripts / "flwr"), "run", str(repository), "--stream", "--run-config", config]
    command += ["--federation-config", "num-supernodes=3"]
    try:
        subprocess.run(
            command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, check=True,
            capture_output=True, timeout=300,
        )  # fmt: skip
    finally:
        stop_superlink(home)
    assert (out / "server/rounds/0001.json").exists()
    assert '"status": "done"' in (out / "server/rounds/0001.json").read_text()


def stop_superlink(home: Path) -> None:
    """The SuperLink that `flwr run` leaves in the background, by its own FLWR_HOME."""
    import signal

    mark = f"FLWR_HOME={home}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGTERM)
            except OSError:
                continue
