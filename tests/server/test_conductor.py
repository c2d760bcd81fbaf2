"""Rounds on a slow host: what lives is waited for, what dies is replaced ever more slowly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from common.rounds.run_folder import FEDERATION
from common.settings import Settings
from server.commands.run import _tell_why_not
from server.deployment import conductor, figures
from server.deployment.conductor import Conductor, server_app_lives
from server.registry.goal import Plan, making_rounds, write_plan
from server.registry.registry import RoundEntry


@dataclass
class Flower:
    """A SuperLink whose run has this status, and whose ServerApp lives or not."""

    status_of_run: str = "running"
    alive: bool = False
    now: float = 0.0
    started: list[float] = field(default_factory=list)

    def start(self, _: Settings) -> int:
        self.started.append(self.now)
        return len(self.started)

    def status(self, _: int) -> str:
        return self.status_of_run

    def stop(self, _: int) -> None:
        pass


@pytest.fixture
def flower() -> Flower:
    return Flower()


@pytest.fixture
def tended(tmp_path: Path, flower: Flower) -> Conductor:
    write_plan(tmp_path, Plan(3))
    return Conductor(
        tmp_path, flower, Settings, lambda _: None,  # type: ignore[arg-type]
        lives=lambda _: flower.alive, clock=lambda: flower.now,
    )  # fmt: skip


def tend(tended: Conductor, flower: Flower, seconds: float) -> None:
    for _ in range(int(seconds * 2)):
        tended.tend()
        flower.now += 0.5


def test_a_server_app_that_lives_is_waited_for_however_slow_it_is(
    tended: Conductor, flower: Flower
) -> None:
    flower.alive = True
    tend(tended, flower, 3600)
    assert flower.started == [0.0]
    assert "starting still" in tended.why


def test_one_that_died_is_replaced(tended: Conductor, flower: Flower) -> None:
    flower.alive = True
    tend(tended, flower, 30)
    flower.alive = False
    tend(tended, flower, 30)
    assert len(flower.started) == 2
    assert "died" in tended.why


@pytest.mark.parametrize("status", ["finished:failed", "running"])
def test_runs_that_make_no_round_follow_each_other_ever_more_slowly(
    tended: Conductor, flower: Flower, status: str
) -> None:
    flower.status_of_run = status
    tend(tended, flower, 3600)
    gaps = [b - a for a, b in zip(flower.started, flower.started[1:], strict=False)]
    assert 8 < len(gaps) < 25
    assert gaps == sorted(gaps)
    assert gaps[-1] >= conductor.LONGEST_PAUSE_S


def test_the_reason_is_the_server_apps_own_and_goes_when_rounds_are_made(
    tended: Conductor, flower: Flower, tmp_path: Path
) -> None:
    flower.status_of_run = "finished:failed"
    tend(tended, flower, 1)
    tended.last_words = "no rounds for now: PrivityError: no network"
    tended.tend()
    assert tended.why == "no rounds for now: PrivityError: no network"
    with making_rounds(tmp_path):
        tended.tend()
    assert tended.why == ""


def test_whoever_waits_for_rounds_is_told_the_reason_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log").mkdir()
    assert _tell_why_not(tmp_path / "federation", "") == ""
    figures.keep(tmp_path / "log" / figures.ROUNDS, {figures.WAITS: "the disk is full"})
    told = _tell_why_not(tmp_path / "federation", "")
    assert _tell_why_not(tmp_path / "federation", told) == "the disk is full"
    assert capsys.readouterr().out == "no round is being made: the disk is full\n"


def test_a_server_app_is_found_by_its_name_and_its_federation(tmp_path: Path) -> None:
    called = tmp_path / conductor.SERVER_APP
    called.write_text("print('here', flush=True)\ninput()\n")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    mark = os.environ | {FEDERATION: str(tmp_path)}
    assert not server_app_lives(tmp_path)
    with subprocess.Popen([sys.executable, str(called)], env=mark, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == b"here\n"
        assert server_app_lives(tmp_path)
        assert not server_app_lives(tmp_path / "another")
        process.communicate(b"\n")
    assert not server_app_lives(tmp_path)


def test_rounds_that_are_asked_for_anew_begin_at_once(
    tended: Conductor, flower: Flower, tmp_path: Path
) -> None:
    """A run that ended because it had made all that was asked for is no failure."""
    tended.tend()
    rounds = tmp_path / "server" / "rounds"
    rounds.mkdir(parents=True)
    for number in (1, 2, 3):
        entry = RoundEntry(number, "done", 3, 3, 1.0, "ab")
        (rounds / f"{number:04d}.json").write_text(json.dumps(asdict(entry)))
    tend(tended, flower, 30)
    flower.status_of_run = "finished:completed"
    tend(tended, flower, 5)
    for number in (1, 2):
        (rounds / f"{number:04d}.json").unlink()  # as if two more were asked for
    tended.tend()
    assert flower.started == [0.0, flower.now]
    assert not tended.why
