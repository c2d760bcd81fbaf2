"""Models without usable figures: said before anybody is charged, and never in a report."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from made_up_people import Runner

from client.learning.personal import train
from client.vault.store import Store
from common.errors import InputError
from common.models import load_base, load_tokenizer
from common.records.records import record_of
from common.settings import Settings
from common.system import strict_json
from common.tasks.language import LanguageScore


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    folder = tmp_path / "damaged"
    base, tokenizer = load_base("tiny"), load_tokenizer("tiny")
    with torch.no_grad():
        base.get_output_embeddings().weight[200] = math.nan
    base.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_damaged_weights_stop_a_run_before_anybody_is_charged(
    run: Runner, people: Path, damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(people, "out", "--model", str(damaged), exit_code=2) == {}
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "person000 is nan" in said
    charged = [Store.open(file).ledger.entries() for file in (tmp_path / "out").rglob("*.db")]
    assert not any(charged)


def test_training_that_diverges_is_said_and_reports_nothing(
    run: Runner, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--personal-rate", "1e6", "--personal-epochs", "3")
    assert run(people, "out", *options, exit_code=2) == {}
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "diverged" in said
    assert "--personal-rate" in said


def test_damaged_weights_fit_no_personal_adapter(damaged: Path) -> None:
    records = [
        record_of("message", {"author": author, "text": f"a {number}", "conversation": "c"})
        for number in range(30)
        for author in ("other", "me")
    ]
    with pytest.raises(InputError, match="weights are damaged"):
        train(records, None, Settings.of(model=str(damaged)), key=bytes(32))


def test_a_perplexity_beyond_all_numbers_is_infinite() -> None:
    assert LanguageScore(1e6, 0, 1).metrics()["perplexity"] == math.inf
    assert math.isnan(LanguageScore(math.nan, 0, 1).metrics()["perplexity"])


def test_json_has_no_infinity_no_nan_and_no_key_twice() -> None:
    text = strict_json.encode({"a": [math.inf, math.nan, 1.5], "b": (True, None, "x")})
    assert json.loads(text) == {"a": [None, None, 1.5], "b": [True, None, "x"]}
    for wrong in ('{"a": NaN}', '{"a": 1, "a": 2}', '[{"b": -Infinity}]', '"\\ud800"', "{"):
        with pytest.raises(ValueError):
            strict_json.decode(wrong)
