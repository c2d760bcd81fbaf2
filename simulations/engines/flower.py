"""Run the apps in Flower's own simulation (Ray) and wait for the verdict.

Everything is public Flower: a private SuperLink on loopback, `flwr run --stream` to wait,
`flwr ls` for the verdict. The SuperLink, its FLWR_HOME and Ray's files live in a temporary folder
and end with the call, so nothing stays behind and two simulations can run side by side.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

Scalar = bool | int | float | str
_CONNECTION = "sim"
_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_LOG_LEVEL": "WARNING",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # silences a warning; leaves GPUs visible
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True)
class Outcome:
    """How a simulation ended."""

    ok: bool
    status: str  # "finished:completed", "finished:failed", …
    details: str
    seconds: float


def simulate(
    app_dir: Path,
    run_config: Mapping[str, Scalar],
    *,
    nodes: int,
    cpus: int = 2,
    cpus_per_client: int = 1,
    gpus_per_client: float = 0.0,
    timeout: float = 3600.0,
    log: IO[str] | None = None,
) -> Outcome:
    """Run the Flower app in `app_dir` with `run_config` laid over its defaults.

    `ok` means that the ServerApp returned. Clients that failed are its business: it sees their
    error replies and must raise if they are too many.
    """
    begin = time.monotonic()
    overrides = "".join(f"{key} = {_toml(value)}\n" for key, value in run_config.items())
    tomllib.loads(overrides)  # nan, inf and strange keys fail here, before anything is started
    base = Path(tempfile.mkdtemp(prefix="pv-"))  # short: Ray puts sockets of ≤ 107 characters here
    port = _free_port()
    env = os.environ | _QUIET
    env |= {"FLWR_HOME": str(base / "home"), "RAY_TMPDIR": str(base / "r")}
    scripts = Path(sys.executable).parent
    env["PATH"] = f"{scripts}{os.pathsep}{env.get('PATH', '')}"  # Flower starts its own by name
    for folder in ("home", "r", "cwd"):
        (base / folder).mkdir()
    (base / "home/config.toml").write_text(
        f'[superlink]\ndefault = "{_CONNECTION}"\n\n'
        f'[superlink.{_CONNECTION}]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    (base / "run.toml").write_text(overrides, encoding="utf-8")
    federation = (
        f"num-supernodes={nodes} init-args-num-cpus={cpus} init-args-log-to-driver=false "
        f"client-resources-num-cpus={cpus_per_client} "
        f"client-resources-num-gpus={float(gpus_per_client)}"
    )
    # Ray workers import from their working folder before the app: it must be an empty one.
    cwd = base / "cwd"
    superlink_log = (base / "superlink.log").open("w")
    superlink = subprocess.Popen(
        [scripts / "flower-superlink", "--insecure", "--simulation",
         "--isolation", "subprocess", "--host", "127.0.0.1", "--port", str(port)],
        cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=superlink_log,
        stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        _wait_until_healthy(port, superlink, base / "superlink.log")
        run = subprocess.run(
            [scripts / "flwr", "run", app_dir.resolve(), _CONNECTION, "--stream",
             "--run-config", base / "run.toml", "--federation-config", federation],
            cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            timeout=timeout, check=False,
        )  # fmt: skip
        if run.returncode != 0:  # refused: bad config or app; a failed run still exits with 0
            return Outcome(False, "refused", "flwr run refused the app", time.monotonic() - begin)
        listed = subprocess.run(
            [scripts / "flwr", "ls", _CONNECTION, "--format", "json"],
            cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        )  # fmt: skip
        last = json.loads(listed.stdout)["runs"][0]
        status, details = str(last["status"]), str(last["status-details"])
        return Outcome(status == "finished:completed", status, details, time.monotonic() - begin)
    except subprocess.TimeoutExpired:
        return Outcome(False, "timeout", f"after {timeout} s", time.monotonic() - begin)
    finally:
        superlink.terminate()
        try:
            superlink.wait(10)
        except subprocess.TimeoutExpired:
            superlink.kill()
            superlink.wait()
        superlink_log.close()
        _end_processes_of(base)
        shutil.rmtree(base, ignore_errors=True)


def _toml(value: Scalar) -> str:
    """Return a TOML literal: JSON's, but for one control character that JSON leaves alone."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"flower-superlink ended at once: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise TimeoutError("flower-superlink did not become healthy within 60 s")


def _end_processes_of(base: Path) -> None:
    """End what the SuperLink started: the process groups of whatever carries our FLWR_HOME (Linux).

    Groups, because Ray's helpers overwrite their environment and would be missed.
    """
    mark = f"FLWR_HOME={base / 'home'}".encode()
    groups = {g for g, environ in _processes() if mark in environ.split(b"\0")} - {os.getpgrp()}
    for signum, wait in ((signal.SIGTERM, 8.0), (signal.SIGKILL, 2.0)):
        alive = groups & {g for g, _ in _processes()}
        for group in alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signum)
        end = time.monotonic() + wait
        while alive & {g for g, _ in _processes()} and time.monotonic() < end:
            time.sleep(0.1)


def _processes() -> list[tuple[int, bytes]]:
    """Process group and environment of every process of ours that is not a zombie."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if state != "Z":
                    found.append((int(group), (entry / "environ").read_bytes()))
    return found
