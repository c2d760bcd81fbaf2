"""A task that nobody knows, in one class and one line of the registry: learn what facts say."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from made_up_people import WORDS, Runner

from common.errors import InputError
from common.records.records import Record, record_of
from common.settings import Settings
from common.tasks import TASKS
from common.tasks.language import LanguageTask
from common.tasks.task import NOTHING, Encoded
from simulations.cli import main


@dataclass(frozen=True, slots=True)
class Fact:
    text: str = field(repr=False)
    at: str | None = None
    split: str | None = None

    @property
    def content(self) -> tuple[str]:
        return (self.text,)


class Facts(LanguageTask):
    """A fact's second half after its first."""

    name, kinds = "facts", frozenset({"fact"})
    unit = "nats a piece"
    source, one, several = "facts", "fact", "facts"
    rule = "A fact is a text of at least one word"

    def examples(self, records: Sequence[Record]) -> list[Fact]:
        return [Fact(r.values["text"], r.at, r.split) for r in records if r.kind == "fact"]

    def encode(self, example: Any, tokenizer: Any) -> Encoded:
        ids = tokenizer.encode(example.text, add_special_tokens=False)[:40]
        half = len(ids) // 2
        return Encoded(tuple(ids), (NOTHING,) * half + tuple(ids[half:]))

    def made_up(self, chance: random.Random, words: Sequence[str]) -> Fact:
        return Fact(" ".join(chance.choices(words, k=4)))

    def archive(self, chance: random.Random, words: Sequence[str], count: int) -> list[Record]:
        return [record_of("fact", {"text": " ".join(chance.choices(words, k=4))})] * count


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(TASKS, Facts.name, Facts())
    folder, chance = tmp_path / "data", random.Random(0)
    folder.mkdir()
    for number in range(5):
        lines = [
            {"kind": "fact", "text": " ".join(chance.choices(WORDS, k=4)), "split": split}
            for split in ("train",) * 8 + ("heldout",) * 2
        ]
        lines.append({"kind": "message", "text": "a", "author": "me", "conversation": "c"})
        content = "\n".join(map(json.dumps, lines))
        (folder / f"p{number}.jsonl").write_text(content, encoding="utf-8")
    return folder


def test_it_runs_and_its_words_are_in_the_report(
    run: Runner, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(data, "run", "--task", "facts", "--evaluation-epsilon", "4")
    assert report["task"] == "facts"
    assert [entry["status"] for entry in report["rounds_log"]] == ["done", "done"]
    assert {person["train"] for person in report["per_user"]} == {8}
    assert {person["heldout"] for person in report["per_user"]} == {2}
    assert report["metric_names"] == {"primary": "perplexity", "better": "lower"}
    assert {one["unit"] for one in report["evaluations"]} == {"nats a piece"}
    assert "nats a piece" in (tmp_path / "run/report.html").read_text(encoding="utf-8")

    assert main(["run", "--data", str(data), "--task", "facts", "--model", "tiny", "--rounds", "1",
                 "--personal-epochs", "0", "--out", str(tmp_path / "loud")]) == 0  # fmt: skip
    said = capsys.readouterr().err
    assert "nats a piece" in said
    assert "Not read by this task: 5 message records." in said


def test_people_without_an_example_are_told_what_one_is(data: Path, run: Runner) -> None:
    (data / "p0.jsonl").write_text('{"kind": "fact", "text": "a b"}\n', encoding="utf-8")
    from simulations import devices

    with pytest.raises(InputError, match=r"held-out facts\. .* A fact is a text of at least one"):
        devices.examples(Settings.of(task="facts", data=str(data), users=5), "p0")


def test_a_name_that_no_task_has_is_refused_with_those_there_are(data: Path) -> None:
    with pytest.raises(InputError, match="Choose one of: chat, classify, tag, facts"):
        Settings.of(task="fact")
