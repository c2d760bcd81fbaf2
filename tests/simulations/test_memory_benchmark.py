"""The benchmark of memory counts what LoCoMo calls evidence, over a made-up conversation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from simulations.cli import main
from simulations.evidence.benchmarks import locomo, memory
from simulations.evidence.benchmarks.memory import recalls


class Blind:
    """An encoder to which all texts are the same."""

    name = "blind"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.ones((len(texts), 1), np.float32)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "SentenceEncoder", Blind)

    def turns(session: int, *texts: str) -> list[dict[str, str]]:
        return [
            {"speaker": "Ann", "dia_id": f"D{session}:{n}", "text": text}
            for n, text in enumerate(texts, start=1)
        ]

    talk = {
        "speaker_a": "Ann", "speaker_b": "Ben",
        "session_1_date_time": "1:56 pm on 8 May, 2023", "session_1": turns(1, "Tea.", "A kite!"),
        "session_2_date_time": "9:00 am on 9 June, 2023",
        "session_2": turns(2, *(f"Number {n}." for n in range(30)), "The violin is old."),
    }  # fmt: skip
    asked = [
        {"question": "What about the violin?", "evidence": ["D2:31"], "category": 4},
        {"question": "Which kite?", "evidence": ["D1:2; D2:20"], "category": 1},
        {"question": "Whose violin is new?", "evidence": ["D2:31"], "category": 5},
        {"question": "Nothing?", "evidence": ["D9:9"], "category": 4},
    ]
    found = tmp_path / "locomo.json"
    found.write_text(json.dumps([{"sample_id": "one", "conversation": talk, "qa": asked}]))
    return found


def test_shares_of_evidence_and_of_sessions() -> None:
    turns = [*(f"D1:{n}" for n in range(1, 8)), "D2:1", "D3:1"]
    figures = recalls(frozenset({"D1:3", "D2:1"}), turns)
    assert figures["recall_at_5_share"] == 0.5
    assert figures["recall_at_10_share"] == 1.0
    assert figures["session_any_at_5_share"] == 1.0
    assert recalls(frozenset({"D7:1"}), turns)["session_any_at_10_share"] == 0.0


def test_the_benchmark_is_one_object_and_keeps_category_5_apart(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "memory", "--data", str(file), "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    rows = {row["case"]: row for row in result["rows"]}
    assert list(rows) == [
        "questions that can be answered", "category 1", "category 4", "category 5"
    ]  # fmt: skip
    answerable = rows["questions that can be answered"]
    assert answerable["data"] == "locomo.json"
    assert answerable["ours"]["questions_count"] == 2
    assert rows["category 4"]["ours"]["recall_at_5_share"] == 1.0
    assert rows["category 1"]["ours"]["recall_at_5_share"] == 0.5
    assert set(answerable["peers"]) == {"bm25_alone", "minilm_alone"}
    assert rows["category 4"]["peers"]["minilm_alone"]["recall_at_5_share"] == 0.0  # it is blind


def test_turns_are_messages_with_the_speakers_name_and_time(file: Path) -> None:
    (talk,) = locomo.read(file)
    assert talk.turns["D1:2"].text == "Ann: A kite!"
    assert talk.turns["D1:2"].at == "2023-05-08T13:56:01+00:00"
    assert talk.end.isoformat() == "2023-06-09T09:00:30+00:00"


@pytest.mark.parametrize("content", ["", "{}", "[]", "[1]", '[{"qa": []}]'])
def test_another_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    assert main(["bench", "memory", "--data", str(file)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_data_is_needed_here_and_refused_elsewhere(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "memory"]) == 2
    assert main(["bench", "secagg", "--data", str(file)]) == 2
    assert capsys.readouterr().out == ""
