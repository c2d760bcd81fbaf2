"""The engines run the same two apps: the same keys and people give the same adapter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment import bearing, free_port
from made_up_people import Runner, write_people

from common.system import quiet
from simulations.engines import flower

pytestmark = pytest.mark.long


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of this test's own, with a name that Ray's sockets bear."""
    folder = Path(tempfile.mkdtemp(prefix="pv", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_flowers_own_runtime_publishes_the_same_adapters(
    run: Runner, tmp_path: Path, short: Path
) -> None:
    """Bit for bit: member ids and the order of answers differ, sums of integers do not."""
    data = write_people(tmp_path / "people", 4)
    options = ("--rounds", "2", "--learning-rate", "5")
    here = run(data, "local", *options)
    there = run(data, "flower", *options, "--engine", "flower")
    adapters = [[entry["adapter_sha256"] for entry in r["rounds_log"]] for r in (here, there)]
    assert adapters[0] == adapters[1]
    assert here["metrics"] == there["metrics"]
    assert bearing(str(short)) == []
    assert list(short.iterdir()) == []


def test_flwr_run_runs_the_two_apps(tmp_path: Path, short: Path) -> None:
    """`flwr run .` as the README gives it, with a run configuration of one's own.

    Flower starts a SuperLink at fixed ports, or takes one that is there: ours gets its own.
    """
    data = write_people(tmp_path / "people", 3)
    repository = Path(__file__).parents[2]
    home, out = short / "home", tmp_path / "out"
    home.mkdir()
    config = f"data='{data}' users=3 model='tiny' examples=8 rounds=1 out='{out}'"
    own = {
        "RAY_TMPDIR": str(short),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
        "FLWR_LOCAL_CONTROL_API_PORT": str(free_port()),
    }
    environment = os.environ | quiet.flower(home) | quiet.RAY | own
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
        flower._end_processes_of(short)  # `flwr run` leaves its SuperLink in the background
    assert bearing(str(short)) == []
    assert (out / "server/rounds/0001.json").exists()
    assert '"status": "done"' in (out / "server/rounds/0001.json").read_text()
