"""Tasks beside chat in a real deployment: one that is new to it, and one with labels."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import deployment
import pytest
from deployment import MODEL, Federation, wait_for

import common

PACKAGES = ("client", "common", "server", "simulations")
SETTINGS: dict[str, Any] = {
    "model": MODEL, "examples": 8, "rounds": 3, "layers": 0, "users": 3, "deadline_s": 120.0,
}  # fmt: skip

# One file. The line beside it: see `with_a_new_task`.
FACTS = """
from dataclasses import dataclass, field

from common.tasks.language import LanguageTask
from common.tasks.task import NOTHING, Encoded


@dataclass(frozen=True, slots=True)
class Fact:
    text: str = field(repr=False)
    at: str | None = None
    split: str | None = None

    @property
    def content(self):
        return (self.text,)


class Facts(LanguageTask):
    name, kinds = "facts", frozenset({"fact"})
    unit, source, one, several = "nats a piece", "facts", "fact", "facts"
    rule = "A fact is a text of at least one word"

    def examples(self, records):
        return [Fact(r.text, r.at, r.split) for r in records if r.kind == "fact"]

    def encode(self, example, tokenizer):
        ids = tokenizer.encode(example.text, add_special_tokens=False)[:40]
        half = len(ids) // 2
        return Encoded(tuple(ids), (NOTHING,) * half + tuple(ids[half:]))

    def made_up(self, chance, words):
        return Fact(" ".join(chance.choices(words, k=4)))

    def archive(self, chance, words, count):
        return []
"""


def with_a_new_task(folder: Path) -> Path:
    """The interpreter of an installation of ours in which one file and one line are more."""
    tree, scripts = folder / "tree", Path(sys.executable).parent
    for package in PACKAGES:
        source = Path(common.__file__).parent.parent / package
        shutil.copytree(source, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "common/tasks/facts.py").write_text(FACTS)
    registry = tree / "common/tasks/__init__.py"
    words = registry.read_text()
    assert words.count("Chat(), ") == 1
    line = "from common.tasks.facts import Facts\n"
    words = words.replace("from common.tasks.tag import", line + "from common.tasks.tag import")
    registry.write_text(words.replace("Chat(), ", "Chat(), Facts(), "))

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    known = [path for path in sys.path if path.endswith("site-packages")]
    (site / "a.pth").write_text("\n".join([str(tree), *known]) + "\n")
    for script in scripts.iterdir():
        if script.name.startswith(("flower-", "flwr")):
            _, rest = script.read_text().split("\n", 1)
            copied = python.parent / script.name
            copied.write_text(f"#!{python}\n{rest}")
            copied.chmod(0o755)
    return python


@contextmanager
def federation(folder: Path, settings: dict[str, Any]) -> Iterator[Federation]:
    made = Federation(folder, SETTINGS | settings)
    try:
        with made.explained():
            made.build(3)
            yield made
    finally:
        made.end()


def write_facts(file: Path, number: int) -> None:
    chance = random.Random(number)
    lines = [
        {"kind": "fact", "text": f"{chance.choice('abc')} is number {turn}", "split": split}
        for turn, split in enumerate(["train"] * 8 + ["heldout"] * 4)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")


def write_texts(file: Path, number: int) -> None:
    """Of each person one text has a label that nobody else has."""
    texts = [(f"tea {turn}", "drink") for turn in range(5)]
    texts += [(f"bread {turn}", "food") for turn in range(5)] + [(f"my {number}", f"own {number}")]
    lines = [
        {"kind": "example", "text": text, "label": label, "split": ("train", "heldout")[turn % 2]}
        for turn, (text, label) in enumerate(texts)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")


def adapter_noted(made: Federation) -> list[str]:
    """What each device says of the adapter that it was given."""
    for person in made.people:
        wait_for(lambda: "adapter" in person.notes(), 60, "an adapter")  # noqa: B023
    return [str(person.notes()["adapter"]) for person in made.people]


@pytest.mark.long
def test_a_task_that_is_one_file_and_one_line_makes_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = str(with_a_new_task(tmp_path))
    monkeypatch.setattr(deployment, "SERVER", [python, "-P", *deployment.SERVER[1:]])
    monkeypatch.setattr(deployment, "CLIENT", [python, "-P", "-m", "client"])
    monkeypatch.setattr(deployment, "write_diary", write_facts)
    with federation(tmp_path / "place", {"task": "facts"}) as made:
        assert [(e.status, e.survivors) for e in made.make(2)] == [("done", 3)] * 2
        assert all("2 facts it has not seen" in one for one in adapter_noted(made))
        assert all("nats a piece" in one for one in adapter_noted(made))
        assert all(person.charged() == {1: 1, 2: 1} for person in made.people)


@pytest.mark.long
def test_labels_are_learnt_and_a_persons_own_label_leaves_no_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "write_diary", write_texts)
    settings = {"task": "classify", "labels": "drink|food", "model": "tiny-bert"}
    allowed = [one for one in deployment.ALLOWED if not one.startswith("models=")]
    monkeypatch.setattr(deployment, "ALLOWED", (*allowed, "models=tiny-bert"))
    with federation(tmp_path, settings) as made:
        assert [(e.status, e.survivors) for e in made.make(1)] == [("done", 3)]
        assert all("2 texts it has not seen" in one for one in adapter_noted(made))
        for number, person in enumerate(made.people):
            assert f"own {number}" not in made.log() + person.tail() + json.dumps(person.notes())
        for file in made.place.folder.rglob("*"):
            assert not file.is_file() or b"own 1" not in file.read_bytes()
