"""Stock Flower 1.41: a SuperLink, SuperNodes, and an app whose round is one empty exchange."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from common.errors import PrivityError
from common.system import quiet
from common.system.processes import environment, script
from simulations.evidence.benchmarks.federation_processes import ended, free_port

PATIENCE_S = 180.0
MANIFEST = """[project]
name = "stock"
version = "1.0.0"
[tool.flwr.app]
publisher = "stock"
[tool.flwr.app.components]
serverapp = "stock_server:app"
clientapp = "stock_client:app"
[tool.flwr.app.config]
devices = {devices}
rounds = {rounds}
out = "{out}"
"""
SERVER = """
import json, time
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()
@app.main()
def main(grid, context):
    config = context.run_config
    while len(list(grid.get_node_ids())) < config["devices"]:
        time.sleep(0.5)
    seconds = []
    for number in range(config["rounds"]):
        begin = time.monotonic()
        messages = [
            Message(RecordDict({"c": ConfigRecord({"n": number})}), dst_node_id=node,
                    message_type="train", group_id=str(number))
            for node in grid.get_node_ids()
        ]
        replies = list(grid.send_and_receive(messages, timeout=120))
        assert len(replies) == config["devices"]
        seconds.append(time.monotonic() - begin)
    open(config["out"], "w").write(json.dumps(seconds))
"""
CLIENT = """
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
app = ClientApp()
@app.train()
def train(message, context):
    return Message(RecordDict(dict(message.content)), reply_to=message)
"""


def round_seconds(devices: int, rounds: int) -> list[float]:
    """Seconds of each round.

    Raises:
        PrivityError: The federation did not come up, or its run failed.
    """
    folder = Path(tempfile.mkdtemp(prefix="pv-stock-"))
    try:
        with _federation(folder, devices) as surroundings:
            return _run(folder, surroundings, devices, rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _federation(folder: Path, devices: int) -> Iterator[dict[str, str]]:
    port = free_port()
    (folder / "home").mkdir()
    surroundings = environment(quiet.flower(folder / "home"))
    (folder / "home/config.toml").write_text(
        f'[superlink]\ndefault = "stock"\n\n[superlink.stock]\naddress = "127.0.0.1:{port}"\n'
        "insecure = true\n"
    )
    address = ["--host", "127.0.0.1", "--port", str(port)]
    commands = [script("flower-superlink", "--insecure", *address)]
    for _ in range(devices):
        own_port = ["--port", str(free_port())]
        link = ["--insecure", "--superlink", f"127.0.0.1:{port}"]
        commands.append(script("flower-supernode", *link, *own_port))
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("w"))
        for number, one in enumerate(commands):
            process = subprocess.Popen(
                one, cwd=folder, env=surroundings, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
            stack.callback(ended, process)
            if number == 0:
                _wait(port)
        yield surroundings


def _run(folder: Path, surroundings: dict[str, str], devices: int, rounds: int) -> list[float]:
    app, out = folder / "app", folder / "seconds.json"
    app.mkdir()
    (app / "pyproject.toml").write_text(
        MANIFEST.format(devices=devices, rounds=rounds, out=out), encoding="utf-8"
    )
    (app / "stock_server.py").write_text(SERVER)
    (app / "stock_client.py").write_text(CLIENT)
    started = subprocess.run(
        script("flwr", "run", str(app), "stock"),
        cwd=folder, env=surroundings, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if started.returncode:
        raise PrivityError(f"Flower refused the run: {started.stderr.strip()[-300:]}")
    end = time.monotonic() + PATIENCE_S
    while not out.exists():
        if time.monotonic() > end:
            words = (folder / "log").read_text()[-500:]
            raise PrivityError(f"The stock federation made no rounds: {words}")
        time.sleep(0.2)
    found: list[float] = json.loads(out.read_text())
    return found


def _wait(port: int) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with (
            contextlib.suppress(OSError),
            direct.open(f"http://127.0.0.1:{port}/health", timeout=1),
        ):
            return
        time.sleep(0.2)
    raise PrivityError("flower-superlink was not healthy in time.")
