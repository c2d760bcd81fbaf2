"""Wrong input: one clear sentence, exit code 2, no traceback, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_up_people import write_people

from common.settings import TABLE
from simulations.cli import main
from simulations.scenarios import folder


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = main(list(arguments))
    captured = capsys.readouterr()
    assert code == 2
    assert "Traceback" not in captured.err
    assert captured.err.startswith("privity-sim: ")
    assert captured.err.count("\n") == 1
    return captured.err


TINY = ("run", "--model", "tiny", "--examples", "8", "--quiet")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--scenario", "nonsense"), ["nonsense", "privity-sim scenarios"]),
        (("--data", "/no/such/folder"), ["/no/such/folder"]),
        (("--epsilon", "0"), ["--epsilon", "greater than 0", "not 0"]),
        (("--epsilon", "-3"), ["--epsilon", "-3"]),
        (("--epsilon", "nan"), ["--epsilon", "nan"]),
        (("--delta", "2"), ["--delta", "at most"]),
        (("--epsilon", "1", "--no-dp"), ["--no-dp", "--epsilon"]),
        (("--task", "juggle"), ["juggle", "chat"]),
        (("--rounds", "0"), ["--rounds", "at least 1"]),
        (("--rounds", "many"), ["--rounds", "many"]),
        (("--cohort", "20", "--users", "10"), ["--cohort 20", "10 users"]),
        (("--nonsense",), ["nonsense", "--help"]),
        (("--resume",), ["--resume", "--out"]),
        (("--engine", "abacus"), ["abacus", "local"]),
        (("--user-clip", "0.1"), ["--user-clip changes nothing", "--user-epsilon"]),
        (("--user-delta", "1e-6"), ["--user-delta changes nothing", "--user-epsilon"]),
        (("--evaluation-range", "1"), ["changes nothing", "--evaluation-epsilon"]),
        (("--no-dp", "--max-grad-norm", "1"), ["changes nothing", "--no-dp"]),
        (("--no-dp", "--accountant", "rdp"), ["--accountant changes nothing", "--no-dp"]),
        (("--user-epsilon", "8", "--update-range", "1"), ["changes nothing", "--user-clip"]),
        (("--modules=", "--rank", "4"), ["--rank changes nothing", "--modules"]),
        (("--personal-epochs", "0", "--personal-rate", "1"), ["changes nothing", "-epochs 0"]),
        (("--head-rank", "4"), ["--head-rank changes nothing", "--task"]),
    ],
)
def test_settings_that_cannot_work(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: list[str]
) -> None:
    message = refusal(capsys, *TINY, *options)
    assert all(word in message for word in words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--users", "9"), ["--users 9", "5 people"]),
        (("--users", "2"), ["cohort of 2", "at least 3"]),
        (("--dropout", "0.9"), ["No round can finish", "--dropout 0.9", "--tolerated-losses"]),
        (("--tolerated-losses", "0.5"), ["--tolerated-losses", "at most 0.45"]),
        (("--user-epsilon", "-1"), ["--user-epsilon", "at least 0"]),
        (("--modules", "no_such_layer"), ["no_such_layer", "--modules"]),
        (("--modules", "v_proj,o_porj"), ["named o_porj.", "down_proj", "o_proj", "v_proj."]),
        (("--personal-modules", "q_porj,v_proj"), ["named q_porj.", "q_proj"]),
        (("--modules", ","), ["No module is named", "v_proj"]),
        (("--model", "/no/such/model"), ["/no/such/model", "--model"]),
    ],
)
def test_settings_that_the_data_or_model_cannot_serve(
    capsys: pytest.CaptureFixture[str], people: Path, options: tuple[str, ...], words: list[str]
) -> None:
    message = refusal(capsys, *TINY, "--data", str(people), *options)
    assert all(word in message for word in words)


NUMBERS = [name for name, setting in TABLE.items() if type(setting.field.default) in (int, float)]
BUDGETS = ("epsilon", "user_epsilon")  # may be as large as anybody likes
COUNTS = ("users", "cohort", "rounds", "examples", "layers", "local_steps", "personal_batch")


@pytest.mark.parametrize("value", ["nan", "-inf", "-1", "1e308", "1" + "0" * 30, ""])
@pytest.mark.parametrize("name", NUMBERS)
def test_absurd_numbers_are_refused_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    if value.startswith("1") and name in (*BUDGETS, *COUNTS):
        return
    option = "--" + name.replace("_", "-")
    needs = {"user_delta": "--user-epsilon=1", "user_clip": "--user-epsilon=1"}
    needs["evaluation_range"] = "--evaluation-epsilon=1"
    also = [needs[name]] if name in needs else []
    assert option in refusal(capsys, "run", "--data", "/no/such/folder", f"{option}={value}", *also)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"kind": "message", "text": "secret", ', ["not valid JSON"]),
        ('["secret"]', ["list", "object"]),
        ('{"kind": "diary", "text": "secret"}', ["unknown kind", "message"]),
        ('{"kind": "fact"}', ["fact", "'text'"]),
        ('{"kind": "fact", "text": "secret", "mood": "secret"}', ["unknown key", "fact"]),
        ('{"kind": "fact", "text": 7}', ["'text'", "int", "str"]),
        ('{"kind": "message", "text": "secret", "author": "cat", "conversation": "c"}', ["author"]),
        ('{"kind": "example", "text": "secret"}', ["label"]),
        ('{"kind": ["secret"]}', ["unknown kind"]),
        ('{"kind": "fact", "text": "\\ud800"}', ["not usable"]),
        ('{"kind": "fact", "text": "x", "at": "secret"}', ["ISO 8601"]),
        ('{"kind": "fact", "text": "x", "at": "9999-12-31T23:59:59-12:00"}', ["ISO 8601"]),
        ('{"kind": "rating", "item": "secret", "title": "x", "value": NaN}', ["usable JSON"]),
        ("[" * 100_000, ["not"]),
        ('{"kind": "fact", "text": "x", "text": "secret"}', ["a key stands twice"]),
        ('{"kind": "rating", "item": "secret", "title": "x", "value": 1e999}', ["usable JSON"]),
        ('{"kind": "fact", "text": "' + "x" * 10_000_000 + '"}', ["10,000,000 characters"]),
    ],
)
def test_malformed_records_are_named_by_file_and_line_and_not_quoted(
    capsys: pytest.CaptureFixture[str], people: Path, line: str, words: list[str]
) -> None:
    file = people / "person002.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:4], line, *lines[4:]]))
    message = refusal(capsys, *TINY, "--data", str(people))
    assert f"{file}, line 5" in message
    assert "secret" not in message
    assert all(word in message for word in words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("anna.JSONL", b"", ["anna.JSONL", "rename"]),
        ("anna.jsonl.gz", b"\x1f\x8b\x08", ["anna.jsonl.gz", "Unpack"]),
        ("anna.jsonl", b"\x1f\x8b\x08\xff", ["anna.jsonl is not UTF-8", "Unpack"]),
        ("anna.jsonl", "{}".encode("utf-16"), ["anna.jsonl is not UTF-8", "UTF-8"]),
        ("folder.jsonl", "folder", ["folder.jsonl is not a file"]),
        ("pipe.jsonl", "pipe", ["pipe.jsonl is not a file", "pipe"]),
    ],
)
def test_files_that_nearly_fit_are_named_with_what_to_do(
    capsys: pytest.CaptureFixture[str], people: Path, name: str, content: Any, words: list[str]
) -> None:
    if content == "pipe":
        os.mkfifo(people / name)
    elif content == "folder":
        (people / name).mkdir()
    else:
        (people / name).write_bytes(content)
    message = refusal(capsys, *TINY, "--data", str(people))
    assert all(word in message for word in words)


def test_a_mark_of_the_byte_order_and_notes_of_macos_are_passed_over(people: Path) -> None:
    first = people / "person000.jsonl"
    first.write_bytes(b"\xef\xbb\xbf" + first.read_bytes())
    (people / "._person000.jsonl").write_bytes(b"\x00\x05\x16\x07")
    assert list(folder.people(str(people), 0, 0)) == [f"person{n:03d}" for n in range(5)]


def test_a_name_in_an_error_cannot_drive_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    message = refusal(capsys, *TINY, "--data", str(tmp_path / "a\x1b[2J\nb[red]"))
    assert r"a\x1b[2J\nb[red]" in message
    assert "\x1b" not in message


def test_a_folder_in_use_is_not_overwritten(
    capsys: pytest.CaptureFixture[str], people: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("keep")
    message = refusal(capsys, *TINY, "--data", str(people), "--out", str(tmp_path / "out"))
    assert "not empty" in message
    assert (tmp_path / "out/mine.txt").read_text() == "keep"


def test_two_processes_do_not_share_a_run(
    capsys: pytest.CaptureFixture[str], people: Path, tmp_path: Path
) -> None:
    import fcntl

    options = ("--data", str(people), "--rounds", "1", "--personal-epochs", "0")
    assert main([*TINY, *options, "--out", str(tmp_path / "out")]) == 0
    with (tmp_path / "out/lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        message = refusal(capsys, "run", "--quiet", "--resume", "--out", str(tmp_path / "out"))
    assert "Another process" in message


def test_no_network_and_no_cache_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PRIVITY_CACHE", str(tmp_path / "empty"))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    code = main(["run", "--quiet"])
    captured = capsys.readouterr()
    assert code == 2
    assert "chitchat-dataset" in captured.err
    assert "network" in captured.err
    assert "Traceback" not in captured.err


def test_a_hub_id_that_cannot_be_reached_is_one_sentence(
    capsys: pytest.CaptureFixture[str], people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    options = ("--data", str(people), "--model", "nobody/nothing")
    message = refusal(capsys, "run", "--examples", "8", "--quiet", *options)
    assert "nobody/nothing" in message


def test_kinds_that_the_task_does_not_read_are_counted_and_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = write_people(tmp_path / "people", 3)
    with (data / "person000.jsonl").open("a") as stream:
        stream.write('{"kind": "fact", "text": "private"}\n{"kind": "fact", "text": "private"}\n')
    options = ("--data", str(data), "--examples", "8", "--rounds", "1", "--personal-epochs", "0")
    assert main(["run", "--model", "tiny", "--out", str(tmp_path / "out"), *options]) == 0
    errors = capsys.readouterr().err
    assert "2 fact" in errors
    assert "private" not in errors


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys\nfrom simulations.cli import main\n"
        "try:\n main(['run', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'flwr', 'opacus', 'ray'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
