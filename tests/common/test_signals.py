"""How a process is ended: Ctrl-C at a terminal, `kill` where it runs in the background."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deployment import free_port, wait_for

from common.console.command_line import Parser, run_command
from common.system.signals import ending
from server.deployment.place import create

# A command that says each line it reads; as a shell starts it at a terminal, or behind a script.
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, {how})
from common.console.command_line import Parser, run_command

def echo(options):
    try:
        print("begun", flush=True)
        for line in sys.stdin:
            print(line, end="", flush=True)
    finally:
        print("put away", flush=True)

def parser():
    made = Parser(prog="privity-sim")
    made.set_defaults(action=echo)
    return made

sys.exit(run_command(parser, [], lambda _: "; continue with --resume"))
"""
AT_A_TERMINAL, IN_THE_BACKGROUND = "signal.default_int_handler", "signal.SIG_IGN"


@contextmanager
def command(how: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(how=how)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        yield process


def ends(process: subprocess.Popen[str], signum: signal.Signals) -> tuple[int, str, str]:
    """Exit code, what it still wrote, and what it said."""
    process.send_signal(signum)
    written, said = process.communicate()
    return process.returncode, written, said.strip()


def test_ctrl_c_interrupts_a_command() -> None:
    said = "privity-sim: interrupted; continue with --resume"
    with command(AT_A_TERMINAL) as process:
        assert ends(process, signal.SIGINT) == (130, "put away\n", said)


@pytest.mark.parametrize("how", [AT_A_TERMINAL, IN_THE_BACKGROUND])
def test_kill_ends_a_command_in_order(how: str) -> None:
    said = "privity-sim: terminated; continue with --resume"
    with command(how) as process:
        assert ends(process, signal.SIGTERM) == (143, "put away\n", said)


def test_a_command_in_the_background_of_a_script_goes_on_at_ctrl_c() -> None:
    with command(IN_THE_BACKGROUND) as process:
        process.send_signal(signal.SIGINT)
        assert process.stdin and process.stdout
        process.stdin.write("still here\n")
        process.stdin.flush()
        assert process.stdout.readline() == "still here\n"
        ends(process, signal.SIGTERM)


def test_who_embeds_a_command_keeps_their_handlers() -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda *_: got.append(1))

    def act(_: object) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 7

    def parser() -> Parser:
        made = Parser()
        made.set_defaults(action=act)
        return made

    try:
        assert run_command(parser, []) == 7
        assert got == [1]
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL, signal.default_int_handler])
def test_what_was_ignored_at_the_start_ends_nothing(
    signum: signal.Signals, handler: signal.Handlers | Callable[..., None]
) -> None:
    before = signal.signal(signum, handler)
    try:
        assert signal.SIGTERM in ending()
        assert (signum in ending()) is (handler != signal.SIG_IGN)
    finally:
        signal.signal(signum, before)


def test_a_gateway_started_in_the_background_outlives_ctrl_c(tmp_path: Path) -> None:
    """`up`, the gateway and a device that takes part ask `ending` what to listen to."""
    place = create(tmp_path / "ours", port=free_port())
    figures = place.log / "gateway.json"
    code = f"import signal, runpy, sys; signal.signal(signal.SIGINT, {IN_THE_BACKGROUND}); "
    code += f"sys.argv = ['', {str(place.folder)!r}]; "
    code += "runpy.run_module('server.deployment.gateway_process', run_name='__main__')"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        wait_for(figures.exists, 60, "the gateway")
        process.send_signal(signal.SIGINT)
        figures.unlink()
        wait_for(figures.exists, 60, "the gateway's next figures")
        process.terminate()
        assert process.wait(60) == 0
    assert not figures.exists()
