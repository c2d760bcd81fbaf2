"""Whole runs of the label tasks: both kinds of models, all sharings, both levels, evaluation."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from simulations.cli import main

NAMES = {"PER": ("Anna", "Bela", "Cleo"), "LOC": ("Rome", "Oslo", "Bern")}
VERBS = ("sees", "likes", "leaves")


def sentence(chance: random.Random) -> tuple[list[str], list[str]]:
    kinds = chance.choices(tuple(NAMES), k=2)
    names = [chance.choice(NAMES[kind]) for kind in kinds]
    return [names[0], chance.choice(VERBS), names[1]], [f"B-{kinds[0]}", "O", f"B-{kinds[1]}"]


def people(folder: Path, task: str) -> Path:
    """Four, each with a label or a kind that nobody else has."""
    chance = random.Random(0)
    folder.mkdir()
    for number in range(4):
        records: list[dict[str, Any]] = []
        for split in ("train",) * 8 + ("heldout",) * 4:
            tokens, tags = sentence(chance)
            own = {"text": " ".join(tokens), "label": tags[0][2:]}
            own = {"tokens": tokens, "tags": tags} if task == "tag" else own
            records.append({"kind": {"tag": "tagged"}.get(task, "example"), "split": split} | own)
        rare = {"tokens": ["x"], "tags": [f"B-OWN{number}"]}
        rare = rare if task == "tag" else {"text": "x", "label": f"OWN{number}"}
        records.append({"kind": records[0]["kind"]} | rare)
        (folder / f"p{number}.jsonl").write_text("\n".join(map(json.dumps, records)))
    return folder


@pytest.mark.parametrize(
    ("task", "model", "options"),
    [
        ("classify", "tiny-bert", "--pooled --evaluation-epsilon 2"),
        ("tag", "tiny", "--sharing fedsa --user-epsilon 8 --evaluation-epsilon 2"),
        ("tag", "tiny-bert", "--sharing lora --head-rank 4 --no-dp --modules v_proj --layers 1"),
        ("classify", "tiny", "--no-dp --user-epsilon 8 --engine flower"),
    ],
)
def test_a_run_from_people_to_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str, model: str, options: str
) -> None:
    out = tmp_path / "run"
    data = people(tmp_path / "people", task)
    arguments = ["run", "--data", str(data), "--task", task, "--model", model, "--rounds", "2"]
    assert main([*arguments, "--examples", "8", "--out", str(out), *options.split()]) == 0
    said = capsys.readouterr()
    assert "4 labels are one person's alone" in said.err
    text = (out / "report.json").read_text()
    report = json.loads(text)
    assert report["settings"]["labels"] == "LOC|PER"
    assert "OWN" not in text + said.err + said.out
    primary = report["metric_names"]["primary"]
    assert (primary, report["metric_names"]["better"]) == (
        {"classify": "accuracy", "tag": "f1"}[task], "higher",
    )  # fmt: skip
    arms = {"base", "shared", "personal", "local"} | (
        {"pooled"} if "--pooled" in options else set()
    )
    assert set(report["metrics"]) == set(report["tables"]) == arms
    assert {one["heldout"] for one in report["per_user"]} <= {2}
    assert all(one["epsilon_message"] is None for one in report["per_user"])
    table = {"classify": "labels", "tag": "entities"}[task]
    kinds = {row["kind"] for row in report["tables"]["personal"][table]}
    assert kinds <= {"LOC", "PER", "micro", "macro", "weighted"}
    assert ("shared_vs_pooled" in report["intervals"]) == ("--pooled" in options)
    assert "Kind by kind" in (out / "report.html").read_text(encoding="utf-8")
    assert {entry["status"] for entry in report["rounds_log"]} <= {"done", "abandoned"}


def test_people_without_a_label_in_common_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "people"
    data.mkdir()
    for name in "abc":
        (data / f"{name}.jsonl").write_text(
            json.dumps({"kind": "example", "text": "secret", "label": name})
        )
    assert main(["run", "--data", str(data), "--task", "classify", "--model", "tiny"]) == 2
    said = capsys.readouterr().err
    assert "No label of these people's labelled texts is used by two of them." in said
    assert "secret" not in said


def test_a_model_that_only_reads_is_refused_for_chat(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--model", "tiny-bert"]) == 2
    assert "cannot answer in words" in capsys.readouterr().err
