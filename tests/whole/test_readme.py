"""README's commands are accepted as they stand; those that are cheap run, on made-up people."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up_people import write_conversations, write_labelled, write_people

import client.cli
import server.cli
import simulations.cli
from client.vault import unlocking
from client.vault.unlocking import Cost
from common.settings import Settings
from simulations.scenarios import chitchat

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OURS: dict[str, Any] = {
    "privity-sim": simulations.cli, "privity-server": server.cli, "privity-client": client.cli,
}  # fmt: skip
SMALL = ("--model", "tiny", "--examples", "8", "--rounds", "1", "--personal-epochs", "0", "--quiet")


def commands() -> list[list[str]]:
    """Every command of the code blocks, split as a shell splits it, without comments."""
    found: list[list[str]] = []
    for block in re.findall(r"^```\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        if block.startswith("pyproject.toml "):  # the tree of files
            continue
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            while "&&" in words:
                end = words.index("&&")
                found.append(words[:end])
                words = words[end + 1 :]
            found += [words] if words else []
    return found


def mentioned() -> list[list[str]]:
    """Commands of ours with their options, named within a sentence."""
    return [span.split() for span in re.findall(r"`(privity-[a-z]+ [^`]+)`", README)]


def arguments_of(*start: str) -> list[list[str]]:
    """What README gives to a program of ours, of every command that starts so."""
    return [words[1:] for words in commands() if tuple(words[: len(start)]) == start]


@pytest.mark.parametrize("words", [*commands(), *mentioned()], ids=shlex.join)
def test_a_command_is_accepted(words: list[str]) -> None:
    program, *arguments = words
    if program in OURS:
        _accepted_by_ours(program, arguments)
    elif program == "pip":
        _accepted_by_pip(arguments)
    elif program == "flwr":
        _accepted_by_flower(arguments)
    else:
        assert words == ["pytest"], "a command that this test does not know: teach it"


def _accepted_by_ours(program: str, arguments: list[str]) -> None:
    parser = OURS[program]._parser()
    if arguments[-1] == "--help":
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(arguments)
        assert ended.value.code == 0
        return
    options = parser.parse_args(arguments)
    assert callable(options.action)
    if arguments[0] == "run" and program == "privity-sim" and not options.resume:
        assert isinstance(simulations.cli._settings(options), Settings)


def _accepted_by_pip(arguments: list[str]) -> None:
    verb, what = arguments
    extras = re.fullmatch(r"\.(?:\[(.+)\])?", what)
    assert verb == "install" and extras
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {extras[1]} <= {None, *project["optional-dependencies"]}


def _accepted_by_flower(arguments: list[str]) -> None:
    from flwr.cli.app import app
    from typer.main import get_command

    flower: Any = get_command(app)
    name, *rest = arguments
    given = flower.commands[name].make_context(name, rest).params
    assert given["app"] in (Path(), ".")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to stand in, and a data set of made-up people instead of the real one."""
    write_conversations(tmp_path / "cache", people=160, answers=10)
    monkeypatch.setenv("PRIVITY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    chitchat._load.cache_clear()
    yield tmp_path / "here"
    chitchat._load.cache_clear()


@pytest.mark.long
def test_a_researchers_commands_run(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_people(elsewhere / "my-people", 3)
    write_labelled(elsewhere / "desks", 3)
    runs = arguments_of("privity-sim", "run")
    assert len(runs) > 5
    for arguments in runs:
        assert simulations.cli.main([*arguments, *SMALL]) == 0, shlex.join(arguments)
    reports = list((elsewhere / "runs").glob("*/report.json"))
    assert len(reports) == len(runs) - 1  # one command resumes another's run
    capsys.readouterr()
    assert simulations.cli.main(["scenarios"]) == 0
    assert "chat" in capsys.readouterr().out


def test_an_operators_commands_run(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("init", "invite", "adapters"):
        (arguments,) = arguments_of("privity-server", verb)
        assert server.cli.main(arguments) == 0, shlex.join(arguments)
    lines = capsys.readouterr().out.splitlines()
    invites = [shlex.split(line) for line in lines if line.startswith("privity-client join ")]
    assert len(invites) == 5
    for invite in [
        *invites,
        *(["privity-client", *each] for each in arguments_of("privity-client", "join")),
    ]:
        assert invite[2].startswith("https://fed.example.org:"), (
            "README's join is not what invite prints"
        )
        test_a_command_is_accepted(invite)


def test_a_persons_commands_run(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlocking, "DEFAULT_COST", Cost(1, 8, 1))
    write_people(elsewhere, 1)
    (elsewhere / "person000.jsonl").rename(elsewhere / "me.jsonl")
    passphrase = elsewhere / "passphrase"
    passphrase.touch(0o600)
    passphrase.write_text("correct horse battery\n")
    monkeypatch.setenv("PRIVITY_HOME", str(elsewhere / "vault"))
    monkeypatch.setenv("PRIVITY_PASSPHRASE_FILE", str(passphrase))
    for verb in ("init", "import", "status"):
        (arguments,) = arguments_of("privity-client", verb)
        assert client.cli.main(arguments) == 0, shlex.join(arguments)
    then = re.search(r"^privity-client status .*# then: (.*)$", README, re.MULTILINE)
    assert then
    for verb in then[1].split(", "):
        test_a_command_is_accepted(["privity-client", verb])
