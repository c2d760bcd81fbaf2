"""Ours: the two commands that an operator and a person type, on one machine."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from common.errors import PrivityError
from simulations.benchmarks.processes import ended, free_port

PATIENCE_S = 300.0
WORDS = ["well", "thanks", "my", "friend", "how", "are", "you", "today", "and", "the", "cat"]
MESSAGES = 12  # of a person and of whom they talk with, each
SETTINGS = {"model": '"tiny"', "layers": "0", "examples": "8", "deadline_s": "120.0"}
POLICY = ("least_cohort=3", "models=tiny", "only_charging=no", "only_unmetered=no")


def round_seconds(devices: int, rounds: int) -> list[float]:
    """Seconds of each round.

    Raises:
        PrivityError: The federation did not come up, or its rounds were not made in time.
    """
    folder = Path(tempfile.mkdtemp(prefix="pv-ours-"))
    try:
        with _operator(folder / "fed", devices, rounds), contextlib.ExitStack() as stack:
            lines = _say(folder, "server", "invite", "--dir", "fed", "--count", str(devices))
            for number, line in enumerate(lines.splitlines()):
                stack.enter_context(_person(folder, number, line.split()[1:]))
            _say(folder, "server", "run", "--dir", "fed")
            return _seconds(folder / "fed/federation/server/rounds")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _operator(fed: Path, devices: int, rounds: int) -> Iterator[None]:
    _say(fed.parent, "server", "init", "fed", "--port", str(free_port()))
    chosen = SETTINGS | {"users": str(devices), "rounds": str(rounds)}
    chosen["superlink_port"] = str(free_port())
    settings = fed / "privity.toml"
    text = settings.read_text()
    for name, value in chosen.items():
        text = re.sub(f"(?m)^{name} = .*$", f"{name} = {value}", text)
    settings.write_text(text)
    log = (fed.parent / "up.log").open("w")
    up = subprocess.Popen(
        [sys.executable, "-m", "server", "up", "--dir", str(fed)],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    try:
        _wait_for(fed / "log/privity.log", " ready")
        yield
    finally:
        ended(up)
        log.close()


@contextlib.contextmanager
def _person(folder: Path, number: int, join: list[str]) -> Iterator[None]:
    home, records = folder / f"person-{number}", folder / f"{number}.jsonl"
    records.write_text("".join(_messages(number)))
    _say(folder, "client", "init", "--passphrase", home=home)
    _say(folder, "client", "import", str(records), home=home)
    _say(folder, "client", "policy", "--set", *POLICY, home=home)
    _say(folder, "client", *join, home=home)
    _say(folder, "client", "start", home=home)
    try:
        yield
    finally:
        _say(folder, "client", "stop", home=home)


def _messages(seed: int) -> Iterator[str]:
    chance = random.Random(seed)  # noqa: S311
    for _ in range(MESSAGES):
        for author in ("other", "me"):
            text = " ".join(chance.choices(WORDS, k=4))
            record = {"kind": "message", "author": author, "conversation": "a", "text": text}
            yield json.dumps(record) + "\n"


def _say(folder: Path, which: str, *words: str, home: Path | None = None) -> str:
    secret = folder / "passphrase"
    if not secret.exists():
        secret.touch(0o600)
        secret.write_text("only for a benchmark\n")
    environment = os.environ | {"PRIVITY_PASSPHRASE_FILE": str(secret)}
    if home:
        environment["PRIVITY_HOME"] = str(home)
    done = subprocess.run(
        [sys.executable, "-m", which, *words],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise PrivityError(f"privity-{which} {words[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def _seconds(rounds: Path) -> list[float]:
    entries = [json.loads(file.read_text()) for file in sorted(rounds.glob("*.json"))]
    if any(entry["status"] != "done" for entry in entries):
        raise PrivityError("A measured round was abandoned.")
    return [entry["seconds"] for entry in entries]


def _wait_for(log: Path, words: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not (log.exists() and words in log.read_text()):
        if time.monotonic() > end:
            raise PrivityError("The federation did not come up in time.")
        time.sleep(0.2)
