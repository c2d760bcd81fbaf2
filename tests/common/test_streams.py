"""All three commands: whatever the streams and the system do, one sentence and no traceback."""

from __future__ import annotations

import argparse
import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import client.cli
import server.cli
import simulations.cli
from common.console.command_line import run_command

COMMAND = "import sys; from {}.cli import main; sys.exit(main())"
PACKAGES = ("client", "server", "simulations")
NAMES = {"client": "privity-client", "server": "privity-server", "simulations": "privity-sim"}


def ran(
    package: str,
    *arguments: str,
    closed: tuple[int, ...] = (),
    before: Callable[[], None] = lambda: None,
    stdin: bytes = b"",
    **environment: str,
) -> subprocess.CompletedProcess[bytes]:
    def prepare() -> None:
        for number in closed:
            os.close(number)
        before()

    return subprocess.run(
        [sys.executable, "-c", COMMAND.format(package), *arguments],
        env=os.environ | environment, input=stdin, capture_output=True, preexec_fn=prepare,
    )  # fmt: skip


def without_traceback(done: subprocess.CompletedProcess[bytes], code: int) -> str:
    said = done.stderr.decode()
    assert done.returncode == code, said
    assert "Traceback" not in said and "Exception ignored" not in said
    return said


ASCII = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}


def test_text_that_a_terminal_cannot_show_is_spelled_out(tmp_path: Path) -> None:
    folder = tmp_path / "日本"
    done = ran("server", "init", str(folder), "--name", "Königsfeld", **ASCII)
    without_traceback(done, 0)
    assert rb"\u65e5\u672c" in done.stdout and rb"K\xf6nigsfeld" in done.stdout
    said = without_traceback(ran("client", "status", "--home", str(folder), **ASCII), 2)
    assert r"\u65e5\u672c" in said


def test_a_byte_that_is_no_text_does_not_end_a_conversation(tmp_path: Path) -> None:
    code = (
        "import argparse, sys; from common.console.command_line import run_command\n"
        "from client.assistant.terminal import chat; from echo import Echo\n"
        "made = argparse.ArgumentParser(prog='p')\n"
        "made.set_defaults(action=lambda _: chat(Echo(), sys.stdin, sys.stdout) or 0)\n"
        "sys.exit(run_command(lambda: made, []))"
    )
    (tmp_path / "echo.py").write_text(
        "class Echo:\n adapters, description = (), 'an echo'\n"
        " def reply(self, messages, **_):\n  yield 'heard ' + messages[-1]['content']\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=b"caf\xe9\xff\nand then\n", capture_output=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    without_traceback(done, 0)
    assert "heard caf\ufffd\ufffd\n" in done.stdout.decode()
    assert "heard and then\n" in done.stdout.decode()


def test_closed_streams(tmp_path: Path) -> None:
    """What is opened in their place is nobody's file."""
    folder, closed = tmp_path / "ours", (0, 1, 2)
    without_traceback(ran("server", "init", str(folder), closed=closed), 0)
    without_traceback(ran("server", "devices", "--dir", str(folder), closed=closed), 0)
    assert (folder / "enrolment.db").read_bytes().startswith(b"SQLite format 3\0")


def test_output_that_nobody_takes() -> None:
    """The reader went away: that is no error. A full disk is one."""
    code = (
        "import argparse, sys; from common.console.command_line import run_command\n"
        "made = argparse.ArgumentParser(prog='p')\n"
        "made.set_defaults(action=lambda _: print('words') or 0)\n"
        "sys.exit(run_command(lambda: made, []))"
    )
    command = [sys.executable, "-c", code]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    without_traceback(done, 0)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE)
    assert "Make room on the disk" in without_traceback(done, 2)


@pytest.mark.parametrize("package", PACKAGES)
def test_names_that_are_too_long(capsys: pytest.CaptureFixture[str], package: str) -> None:
    options = {
        "client": ["init", "--home", "/tmp/" + "x" * 300],
        "server": ["status", "--dir", "x" * 300],
        "simulations": ["run", "--quiet", "--data", "x" * 300],
    }[package]
    main = {"client": client.cli, "server": server.cli, "simulations": simulations.cli}[
        package
    ].main
    assert main(options) == 2
    error = capsys.readouterr().err
    assert error.startswith(NAMES[package]) and error.count("\n") == 1
    assert "too long" in error or "not an operator's folder" in error


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    said = without_traceback(ran("server", "init", str(tmp_path / "ours"), before=limit), 2)
    assert "cannot be made" in said or "ulimit -f" in said
    assert list(tmp_path.iterdir()) == []


def test_a_user_without_a_home(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PRIVITY_HOME", "XDG_DATA_HOME", "PRIVITY_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where there is none
    for main, command in ((client.cli.main, "status"), (simulations.cli.main, "run")):
        assert main([command]) == 2
        assert "no home folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/a/b"), 2, "/a/b cannot be used: Read-on"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/a"), 2, "Make room"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG), "/a"), 2, "ulimit -f"),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/a"), 2, "/a cannot be used"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/a"), 1, "Too many open files"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), 1, "reset"),
        (TimeoutError(), 1, "TimeoutError"),
    ],
)
def test_what_the_system_says_is_one_sentence(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int, words: str
) -> None:
    def parser() -> argparse.ArgumentParser:
        made = argparse.ArgumentParser(prog="p")
        made.set_defaults(action=act)
        return made

    def act(_: argparse.Namespace) -> int:
        raise error

    assert run_command(parser, []) == code
    said = capsys.readouterr().err
    assert said.startswith("p: ") and said.count("\n") == 1 and words in said


def test_a_mistake_of_our_own_keeps_its_traceback() -> None:
    def parser() -> argparse.ArgumentParser:
        made = argparse.ArgumentParser(prog="p")
        made.set_defaults(action=lambda _: {}["a key"])
        return made

    with pytest.raises(KeyError):
        run_command(parser, [])
