"""Fixtures of all tests: made-up people and tiny runs. Nothing here needs the network.

The suite is its own: whoever starts it, from whatever terminal, beside whatever else runs here, it
sees an empty home folder, UTF-8, one core, no terminal's width and no setting of the person's own.
"""

from __future__ import annotations

import contextlib
import json
import locale
import os
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from made_up_people import Runner, write_people

# What a person may have set for themselves: settings, proxies, how terminals look. Out of here
# before anything reads it, but for the model that PRIVITY_TEST_MODEL names.
THEIRS = re.compile(
    r"PRIVITY_(?!TEST_MODEL$)|FLWR_|RAY_|HF_|XDG_"
    r"|(.*_proxy|COLUMNS|LINES|NO_COLOR|FORCE_COLOR|CLICOLOR_FORCE|DBUS_SESSION_BUS_ADDRESS)$",
    re.IGNORECASE,
)
for _name in [name for name in os.environ if THEIRS.match(name)]:
    del os.environ[_name]
_ours = tempfile.TemporaryDirectory(prefix="privity-tests-")
for _folder in ("home", "cache", "state"):
    Path(_ours.name, _folder).mkdir()
os.environ |= {
    "HOME": f"{_ours.name}/home", "PRIVITY_CACHE": f"{_ours.name}/cache",
    "XDG_STATE_HOME": f"{_ours.name}/state",
    "TORCHINDUCTOR_CACHE_DIR": f"{_ours.name}/cache/inductor",  # PyTorch makes it when imported
    "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8",
    "PYTHONUTF8": "1",
}  # fmt: skip
with contextlib.suppress(locale.Error):  # for this process, which has begun
    locale.setlocale(locale.LC_ALL, "C.UTF-8")

# A busy machine is no failure, and what one run found is not kept for others.
settings.register_profile(
    "ours", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ours")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The whole suite on up to four cores, a file at a time; named files in one process."""
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    return 0 if named else min(os.cpu_count() or 1, 4)


# The longest files, first, so that no worker of a parallel run is left alone with one at the end.
LONGEST = ("test_deployment.py", "test_audit.py", "test_hosts.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else 9)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT does what it does at a terminal, also to who is started: a job in the background
    of a script has it ignored, and so has all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return write_people(tmp_path / "people", 5)


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    """Run a tiny simulation through the command line's own code; its report."""

    def execute(data: Path, out: str = "run", *options: str, exit_code: int = 0) -> dict[str, Any]:
        from simulations.cli import main

        folder = tmp_path / out
        arguments = ["run", "--data", str(data), "--model", "tiny", "--examples", "8"]
        arguments += ["--rounds", "2", "--personal-epochs", "1", "--quiet", "--out", str(folder)]
        assert main([*arguments, *options]) == exit_code
        file = folder / "report.json"
        return json.loads(file.read_text()) if file.exists() else {}

    return execute
