"""`privity-sim people`: a data set becomes people, each record one person's; nothing is lost."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from common.records.records import Labelled, Tagged, read_records
from simulations.cli import main


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "bank.csv"
    rows = [f'"question {i}, with a comma",{("card", "cash", "loan")[i % 3]}' for i in range(300)]
    file.write_text("text,category\n" + "\n".join(rows) + "\n")
    return file


def deal(*arguments: object) -> int:
    return main(["people", *map(str, arguments)])


def test_labels_are_skewed_and_every_text_is_somebodys(questions: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert deal(questions, "--label", "category", "--users", 4, "--skew", 0.3, "--out", out) == 0
    people = [read_records(file) for file in sorted(out.glob("*.jsonl"))]
    texts = [r.text for records in people for r in records if isinstance(r, Labelled)]
    assert sorted(texts) == sorted(f"question {i}, with a comma" for i in range(300))
    counts = [Counter(r.label for r in records if isinstance(r, Labelled)) for records in people]
    largest = max(max(c.values()) / max(1, sum(c.values())) for c in counts if c)
    assert largest > 0.5  # evenly dealt, a third
    assert deal(questions, "--label", "category", "--users", 4, "--skew", 0.3, "--out", out) == 2


def test_the_seed_decides_who_gets_what(questions: Path, tmp_path: Path) -> None:
    def dealt(seed: int, name: str) -> list[str]:
        deal(
            questions, "--label", "category", "--users", 3, "--seed", seed, "--out", tmp_path / name
        )
        return [file.read_text() for file in sorted((tmp_path / name).glob("*.jsonl"))]

    assert dealt(1, "a") == dealt(1, "b") != dealt(2, "c")


def test_a_conll_file_is_a_person_and_its_documents_are_dealt(tmp_path: Path) -> None:
    for name in ("x", "y"):
        documents = (f"-DOCSTART- O\n\n{name}{i} B-PER\n\nruns O\n" for i in range(4))
        (tmp_path / f"{name}.conll").write_text("\n".join(documents))
    sources = tmp_path / "x.conll", tmp_path / "y.conll"
    assert deal(*sources, "--out", tmp_path / "one") == 0
    assert [len(read_records(tmp_path / "one" / f"{n}.jsonl")) for n in "xy"] == [8, 8]
    assert deal(sources[0], "--users", 2, "--out", tmp_path / "two") == 0
    found = read_records(tmp_path / "two" / "x-1.jsonl")
    assert [r.tokens[0] for r in found if isinstance(r, Tagged)] == ["x1", "runs", "x3", "runs"]


def test_wrong_input_is_one_sentence(
    questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    wrong = [
        ([questions, "--out", out], "has no column 'label'. Give --label one of: text, category."),
        ([tmp_path / "none.csv", "--out", out], "cannot be read: No such file"),
        ([questions, "--label", "category", "--skew", 0, "--out", out], "invalid"),
        ([questions, "--label", "category", "--users", 0, "--out", out], "invalid"),
    ]
    for arguments, words in wrong:
        assert deal(*arguments) == 2
        said = capsys.readouterr().err
        assert words in said and "Traceback" not in said and len(said.splitlines()) == 1
    assert not out.exists()


def test_texts_come_out_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n"two\nlines ""quoted""",x\n,y\nno label,\n')
    assert deal(tmp_path / "a.csv", "--out", tmp_path / "out") == 0
    line = json.loads((tmp_path / "out" / "a.jsonl").read_text())
    assert line == {"kind": "example", "text": 'two\nlines "quoted"', "label": "x"}
