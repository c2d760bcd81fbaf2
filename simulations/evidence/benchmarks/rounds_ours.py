"""Ours: the two commands that an operator and a person type, on one machine."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common.errors import PrivityError
from common.rounds.outcomes import DONE
from simulations.evidence.benchmarks.deployment import operator, output_of

WORDS = ["well", "thanks", "my", "friend", "how", "are", "you", "today", "and", "the", "cat"]
MESSAGES = 12  # of a person and of whom they talk with, each
SETTINGS: dict[str, object] = {
    "model": '"tiny"', "layers": 0, "examples": 8, "deadline_s": 120.0
}  # fmt: skip
POLICY = ("least_cohort=3", "models=tiny", "only_charging=no", "only_unmetered=no")


def round_seconds(devices: int, rounds: int) -> list[float]:
    """Seconds of each round.

    Raises:
        PrivityError: The federation did not come up, or its rounds were not made in time.
    """
    folder = Path(tempfile.mkdtemp(prefix="pv-ours-"))
    try:
        chosen = {"run": SETTINGS | {"users": devices, "rounds": rounds}}
        with operator(folder / "fed", chosen), contextlib.ExitStack() as stack:
            lines = output_of(folder, "server", "invite", "--dir", "fed", "--count", str(devices))
            for number, line in enumerate(lines.splitlines()):
                stack.enter_context(_person(folder, number, line.split()[1:]))
            output_of(folder, "server", "run", "--dir", "fed")
            return _seconds(folder / "fed/federation/server/rounds")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _person(folder: Path, number: int, join: list[str]) -> Iterator[None]:
    home, records = folder / f"person-{number}", folder / f"{number}.jsonl"
    records.write_text("".join(_messages(number)))
    output_of(folder, "client", "init", "--passphrase", home=home)
    output_of(folder, "client", "import", str(records), home=home)
    output_of(folder, "client", "policy", "--set", *POLICY, home=home)
    output_of(folder, "client", *join, home=home)
    try:
        yield
    finally:
        output_of(folder, "client", "stop", home=home)


def _messages(seed: int) -> Iterator[str]:
    chance = random.Random(seed)  # noqa: S311
    for _ in range(MESSAGES):
        for author in ("other", "me"):
            text = " ".join(chance.choices(WORDS, k=4))
            record = {"kind": "message", "author": author, "conversation": "a", "text": text}
            yield json.dumps(record) + "\n"


def _seconds(rounds: Path) -> list[float]:
    entries = [json.loads(file.read_text()) for file in sorted(rounds.glob("*.json"))]
    if any(entry["status"] != DONE for entry in entries):
        raise PrivityError("A measured round was abandoned.")
    return [entry["seconds"] for entry in entries]
