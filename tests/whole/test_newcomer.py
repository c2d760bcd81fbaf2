"""A federation as a newcomer types it, from `init` to a finished round: a transcript, replayed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from deployment import SECRETS, bearing, free_port, wait_for, write_diary

TRANSCRIPT = Path(__file__).parent / "transcripts" / "newcomer.txt"
PEOPLE = ("anna", "bela", "cleo")
PATIENCE_S = 300.0
Typed = list[tuple[str, list[str]]]  # a command, and the lines that it must say


def transcript() -> Typed:
    typed: Typed = []
    for line in TRANSCRIPT.read_text().splitlines():
        if line.startswith("$ "):
            typed.append((line.removeprefix("$ "), []))
        elif line and not line.startswith("# "):
            typed[-1][1].append(line)
    return typed


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder with three people's files; whatever is started there ends."""
    for number, who in enumerate(PEOPLE):
        write_diary(tmp_path / f"{who}.jsonl", number)
    yield tmp_path
    for process in bearing(f"PRIVITY_TEST={tmp_path}"):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def environment(place: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {
        "PATH": path,
        "PRIVITY_TEST": str(place),
        "PYTHONUNBUFFERED": "1",  # both streams in the order in which a terminal shows them
        "OMP_NUM_THREADS": "1",
        "GATEWAY": str(free_port()),
        "SUPERLINK": str(free_port()),
    }


def plain(line: str) -> str:
    return " ".join(line.split())


def missing(expected: list[str], said: list[str]) -> str:
    """The first line that was not said after those before it; empty where all were."""
    left = iter(said)
    for line in expected:
        wanted = ".*".join(re.escape(part) for part in plain(line).split("…"))
        if not any(re.fullmatch(wanted, one) for one in left):
            return line
    return ""


def test_what_is_missing_is_found() -> None:
    said = ["round 1: done, 3 of 3 devices, 2.6 s", "a table"]
    assert missing(["round 1: done, … s", "a …"], said) == ""
    assert missing(["a …", "round 1: done, … s"], said) == "round 1: done, … s"
    assert missing(["round 1: done"], said) == "round 1: done"


@pytest.mark.long
def test_a_newcomer_makes_a_federation_of_three(place: Path) -> None:
    own, record = environment(place), ""
    for command, expected in transcript():
        done = subprocess.run(
            ["bash", "-c", command], cwd=place, env=own, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        said = [plain(line) for line in done.stdout.splitlines()]
        said += [f"(exit code {done.returncode})"] if done.returncode else []
        record += "\n".join([f"$ {command}", *said, ""])
        assert not (lost := missing(expected, said)), f"{record}\nnot said: {lost}"
        assert not done.returncode or said[-1] in expected, record
        assert "Traceback" not in done.stdout
        assert not any(secret in done.stdout for secret in SECRETS)
    wait_for(lambda: not bearing(f"PRIVITY_TEST={place}"), 60, "the end of all that was started")
