"""Fixtures of all tests: made-up people and tiny runs. Nothing here needs the network."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from made_up_people import Runner, write_people

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# The longest files, first, so that no worker of a parallel run is left alone with one at the end.
LONGEST = ("test_deployment.py", "test_audit.py", "test_hosts.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else 9)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["PRIVITY_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return write_people(tmp_path / "people", 5)


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    """Run a tiny simulation through the command line's own code; its report."""

    def execute(data: Path, out: str = "run", *options: str, exit_code: int = 0) -> dict[str, Any]:
        import torch

        from simulations.cli import main

        torch.set_num_threads(1)  # the tiny model's tensors are not worth a second one
        folder = tmp_path / out
        arguments = ["run", "--data", str(data), "--model", "tiny", "--examples", "8"]
        arguments += ["--rounds", "2", "--personal-epochs", "1", "--quiet", "--out", str(folder)]
        assert main([*arguments, *options]) == exit_code
        file = folder / "report.json"
        return json.loads(file.read_text()) if file.exists() else {}

    return execute
