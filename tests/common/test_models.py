"""Any causal language model by path: other families than the default's, made small and random."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from made_up_people import Runner

from common.adapter import lora
from common.errors import InputError
from common.learning.backbone import backbone_for
from common.models import hub as models_hub
from common.models import load_base, load_tokenizer, model_files
from common.settings import Settings
from common.tasks.chat import Turn, tokenize

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3,
         "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}  # fmt: skip


def configuration(family: str) -> Any:
    from transformers import Gemma2Config, GPT2Config, Qwen2Config

    if family == "gpt2":
        return GPT2Config(vocab_size=300, n_embd=16, n_layer=3, n_head=2, n_positions=256)
    kind = {"qwen2": Qwen2Config, "gemma2": Gemma2Config}[family]
    # large weights, so that Gemma 2's soft-capped logits differ from plain ones
    return kind(vocab_size=300, initializer_range=0.5, **SMALL)


@pytest.fixture(params=["gpt2", "qwen2", "gemma2"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    target = tmp_path / request.param
    AutoModelForCausalLM.from_config(configuration(request.param)).save_pretrained(target)
    load_tokenizer("tiny").save_pretrained(target)
    return target


def modules(folder: Path) -> tuple[str, str]:
    return ("c_attn", "c_attn") if folder.name == "gpt2" else ("v_proj", "q_proj,v_proj")


def test_losses_are_those_of_the_model_itself(folder: Path) -> None:
    """With or without the short cut. Oracle: transformers' own loss."""
    shared, personal = modules(folder)
    settings = Settings.of(
        model=str(folder), modules=shared, personal_modules=personal, layers=1, users=3
    )
    backbone = backbone_for(settings)
    tokens = tokenize(Turn("how are you?", "well, thanks"), backbone.tokenizer)
    with lora.active(backbone.model):
        ours = backbone.score(backbone.prepare([tokens]))
    labels = torch.tensor([tokens.labels])
    labels[labels < 0] = -100
    with torch.no_grad():
        theirs = load_base(str(folder))(input_ids=torch.tensor([tokens.ids]), labels=labels).loss
    assert ours.loss / ours.count == pytest.approx(float(theirs), rel=1e-4)
    assert backbone.shortcut == (folder.name == "qwen2")  # the others keep the plain path


def test_a_whole_run_works(run: Runner, people: Path, folder: Path) -> None:
    shared, personal = modules(folder)
    options = ("--modules", shared, "--personal-modules", personal, "--layers", "1")
    report = run(people, "run", "--model", str(folder), "--rounds", "1", *options)
    assert report["rounds_log"][0]["status"] == "done"
    assert report["metrics"]["personal"]["nll"] < report["metrics"]["base"]["nll"]


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        model_files(str(tmp_path))


class Hub:
    """Stands for a transformers class; knows `known` locally and the rest on the hub."""

    asked: ClassVar[list[bool]] = []

    @classmethod
    def from_pretrained(cls, name: str, *, local_files_only: bool = False) -> str:
        cls.asked.append(not local_files_only)
        if local_files_only and name != "known/model":
            raise OSError
        return name


def test_the_hub_is_asked_only_for_what_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_hub, "_require_at_hub", lambda _: None)
    for name, expected in (("known/model", [False]), ("other/model", [False, True])):
        monkeypatch.setattr(Hub, "asked", [])
        assert models_hub.from_pretrained(Hub, name) == name
        assert Hub.asked == expected


def test_the_tiny_model_is_always_the_same() -> None:
    model = load_base("tiny")
    assert 5_000 < model.num_parameters() < 20_000
    total = sum(float(parameter.double().abs().sum()) for parameter in model.parameters())
    assert total == pytest.approx(1481.4991, rel=1e-6)
