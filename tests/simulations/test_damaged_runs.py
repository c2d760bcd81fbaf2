"""`run --resume` on a folder in which something is broken: one sentence, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from made_up_people import Runner, write_people

from simulations import run as runs
from simulations.cli import main

BROKEN = {"empty": b"", "cut": None, "foreign": b"\x00\xff not ours\n"}
FILES = (
    "settings.json", "people.sha256", "seconds", "run-id", "authority.key",
    "server/rounds/0001.json", "server/adapters/0001.npz", "server/adapters/0001.json",
    "server/spent.json", "devices/00000.db", "evaluation/00000-base.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    people = write_people(folder / "people", 3)
    options = ("--model", "tiny", "--examples", "8", "--rounds", "1", "--personal-epochs", "0")
    out = str(folder / "out")
    assert main(["run", "--data", str(people), *options, "--quiet", "--out", out]) == 0
    return folder / "out"


def everything(folder: Path) -> dict[str, bytes]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def resumed(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["run", "--quiet", "--resume", "--out", str(folder)])
    return code, capsys.readouterr().err


CASES = [
    (name, how)
    for name in FILES
    for how in BROKEN
    if how != "cut" or name not in ("seconds", "run-id")  # half a number is one too
] + [
    (name, "missing") for name in ("people.sha256", "server/adapters/0001.npz", "devices/00000.db")
]


@pytest.mark.parametrize(("name", "how"), CASES)
def test_what_is_damaged_is_named_and_nothing_is_changed(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, how: str
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    file = folder / name
    whole = file.read_bytes()
    if how == "missing":
        file.unlink()
    else:
        content = BROKEN[how]
        file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    before = everything(folder)
    code, said = resumed(folder, capsys)
    assert code == 2
    assert said.count("\n") == 1
    assert name in said
    assert everything(folder) == before


def test_what_is_whole_goes_on(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    (tmp_path / "out/report.json").write_text("{")  # made anew from what the run left
    assert resumed(tmp_path / "out", capsys) == (0, "")
    assert (tmp_path / "out/report.json").read_bytes().startswith(b"{\n")


def test_runs_of_one_second_take_different_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "2026-01-01-000000")
    taken = [runs.fresh_folder() for _ in range(6)]
    assert len(set(taken)) == 6
    assert all(os.path.isdir(folder) for folder in taken)  # noqa: PTH112


def test_a_run_without_out_works_and_a_refused_one_leaves_no_folder(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Runner
) -> None:
    monkeypatch.chdir(tmp_path)
    options: Any = ("run", "--data", str(people), "--model", "tiny", "--examples", "8", "--quiet")
    assert main([*options, "--modules", "v_proj,o_porj"]) == 2
    assert not (tmp_path / "runs").exists()
    assert main([*options, "--rounds", "1", "--personal-epochs", "0"]) == 0
    assert len(list((tmp_path / "runs").iterdir())) == 1
