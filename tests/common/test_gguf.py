"""GGUF adapters against two oracles: the gguf package reads them, llama.cpp computes with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf_base import write_base

from client.assistant.engine import BASE, Loaded, Scales
from client.assistant.llamacpp import LlamaCppEngine
from client.assistant.torch_engine import TorchEngine
from common.adapter import lora
from common.adapter.gguf_io import architecture, encode_lora, weight_name
from common.adapter.peft_io import save_adapter, save_vector
from common.adapter.plan import BOTH, AdapterPlan, Site
from common.adapter.weights import Shared, whole
from common.errors import InputError
from common.learning.backbone import Backbone, adapter_plans
from common.models import gguf_file, load_base, load_tokenizer, skeleton
from common.settings import Settings
from common.tasks import TASKS
from common.tasks.chat import Turn, tokenize
from common.tasks.task import Encoded

EVERYTHING = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
TURNS = [
    Turn("how are you?", "well, thank you é 茶"),
    Turn("what is it " * 5, "tea and rain"),
    Turn("so", "a garden by the river " * 3),
]
TOLERANCE = 2e-4  # nats a token: float32 in two orders of summation, probabilities down to e^-20


def settings_for(model: str) -> Settings:
    """Different ranks, so that alpha/r matters, and k_proj, which has fewer heads than q_proj."""
    return Settings.of(
        model=model, modules=EVERYTHING, rank=3, layers=0, users=3,
        personal_modules="q_proj,k_proj,down_proj", personal_rank=2,
    )  # fmt: skip


def random_vector(plan: AdapterPlan, seed: int) -> Any:
    chance = np.random.default_rng(seed)
    return chance.normal(scale=0.3, size=plan.size(BOTH)).astype(np.float32)


def loaded(settings: Settings) -> dict[str, Loaded]:
    plans = dict(zip(("shared", "personal"), adapter_plans(settings), strict=True))
    return {
        name: Loaded(plan, random_vector(plan, seed))
        for seed, (name, plan) in enumerate(plans.items())
    }


def with_gguf(folder: Path, model: Any) -> str:
    model.save_pretrained(folder)
    tokenizer = load_tokenizer("tiny")
    tokenizer.save_pretrained(folder)
    write_base(load_base(str(folder)), tokenizer, folder / "base.gguf")
    return str(folder)


@pytest.fixture(params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A model folder with a float32 GGUF of the same weights; four heads over two."""
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

    kind = {"llama": LlamaConfig, "qwen2": Qwen2Config}[request.param]
    config = kind(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        tie_word_embeddings=True, initializer_range=0.3, rope_theta=10000.0,
    )  # fmt: skip
    torch.manual_seed(0)
    return with_gguf(tmp_path / request.param, AutoModelForCausalLM.from_config(config))


@pytest.fixture
def engines(model: str) -> Iterator[tuple[LlamaCppEngine, TorchEngine]]:
    settings = settings_for(model)
    adapters = loaded(settings)
    native = LlamaCppEngine(model, adapters, threads=1, exact=True)
    yield native, TorchEngine(settings, adapters)
    native.close()


def examples(engine: Any) -> list[Encoded]:
    return [tokenize(turn, engine.tokenizer) for turn in TURNS]


def test_llama_cpp_and_pytorch_compute_the_same_adapters(
    engines: tuple[LlamaCppEngine, TorchEngine],
) -> None:
    """Base, each adapter, both, and other scales. A wrong order of rows, name or scale shows."""
    native, torch_engine = engines
    base = {}
    for scales in (BASE, Scales(1, 0), Scales(0, 1), Scales(), Scales(0.5, 2.0), BASE):
        for number, tokens in enumerate(examples(native)):
            ours = np.array(native.token_log_likelihoods(tokens, scales))
            truth = np.array(torch_engine.token_log_likelihoods(tokens, scales))
            assert np.abs(ours - truth).max() < TOLERANCE, scales
            base.setdefault(number, truth)
            if scales != BASE:  # what a lost adapter would give is far away
                assert np.abs(truth - base[number]).max() > 100 * TOLERANCE


def test_rows_of_llamas_q_and_k_must_be_reordered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison above is sharp: without the reordering it fails by far."""
    folder = with_gguf(tmp_path / "m", load_base("tiny"))
    settings = settings_for(folder)
    adapters = loaded(settings)
    tokens = tokenize(TURNS[0], load_tokenizer(folder))
    truth = np.array(TorchEngine(settings, adapters).token_log_likelihoods(tokens))
    differences = {}
    for reorders in (True, False):
        monkeypatch.setitem(architecture.__globals__["KNOWN"], "llama", ("llama", reorders))
        native = LlamaCppEngine(folder, adapters, threads=1, exact=True)
        differences[reorders] = np.abs(np.array(native.token_log_likelihoods(tokens)) - truth).max()
        native.close()
    assert differences[True] < TOLERANCE
    assert differences[False] > 100 * TOLERANCE


def test_the_gguf_package_reads_what_was_written(tmp_path: Path) -> None:
    """Oracle: gguf's own reader. v is as it was, q's pairs of rows are neighbours."""
    plan, _ = adapter_plans(settings_for("tiny"))
    vector = random_vector(plan, 3)
    file = tmp_path / "adapter.gguf"
    file.write_bytes(encode_lora(plan, vector, architecture(skeleton("tiny").config)))
    reader = gguf.GGUFReader(file)
    assert reader.fields["general.type"].contents() == "adapter"
    assert reader.fields["general.architecture"].contents() == "llama"
    assert reader.fields["adapter.type"].contents() == "lora"
    assert reader.fields["adapter.lora.alpha"].contents() == plan.alpha
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    assert len(tensors) == 2 * len(plan.sites)
    assert all(tensor.data_offset % 32 == 0 for tensor in reader.tensors)
    for site, part, place in plan.entries(BOTH):
        found = tensors[f"{weight_name(site)}.lora_{part.lower()}"]
        expected = vector[place].reshape(plan.shape(site, part))
        if part == "B" and site.module.endswith("q_proj"):  # 2 heads of 8 rows
            expected = expected[[0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]]
        if part == "B" and site.module.endswith("k_proj"):  # 1 head
            expected = expected[[0, 4, 1, 5, 2, 6, 3, 7]]
        assert np.array_equal(found, expected), site


@pytest.mark.parametrize("kind", ["gpt2", "gemma2", "phi3"])
def test_an_unknown_architecture_is_refused(kind: str) -> None:
    with pytest.raises(InputError, match=kind):
        architecture(SimpleNamespace(model_type=kind, num_attention_heads=2))


@pytest.mark.parametrize("module", ["lm_head", "model.layers.0.self_attn.qkv_proj"])
def test_a_module_without_a_counterpart_is_refused(module: str) -> None:
    with pytest.raises(InputError, match=module):
        weight_name(Site(module, 4, 4))


def test_a_folder_with_one_gguf_has_one(tmp_path: Path) -> None:
    assert gguf_file("tiny") is None
    assert gguf_file("somebody/model") is None
    assert gguf_file(str(tmp_path)) is None
    (tmp_path / "a.gguf").touch()
    assert gguf_file(str(tmp_path)) == tmp_path / "a.gguf"
    (tmp_path / "b.gguf").touch()
    assert gguf_file(str(tmp_path)) is None  # which of them, nobody said


@pytest.mark.parametrize("sharing", ["ffa", "fedsa", "lora"])
def test_a_shared_adapter_is_saved_without_a_model_as_with_one(
    tmp_path: Path, sharing: str
) -> None:
    """The files' tensors are those that PEFT saves; plain PEFT loads them to the same logits."""
    from peft import PeftModel
    from safetensors.numpy import load_file

    settings = Settings.of(model="tiny", modules="q_proj,v_proj", rank=2, sharing=sharing, users=3)
    plan, personal = adapter_plans(settings)
    chance = np.random.default_rng(0)
    shared = Shared(plan, chance.normal(scale=0.3, size=plan.dimension).astype(np.float32))
    kept = None
    if sharing == "fedsa":
        kept = chance.normal(scale=0.3, size=plan.size(("B",))).astype(np.float32)
    save_vector(plan, whole(shared, kept), tmp_path / "ours")

    backbone = Backbone(TASKS["chat"], "tiny", plan, personal)
    lora.write(backbone.model, lora.SHARED, plan, plan.sent, shared.vector)
    if kept is not None:
        lora.write(backbone.model, lora.SHARED, plan, ("B",), kept)
    save_adapter(backbone.model, lora.SHARED, tmp_path / "theirs")
    files = [tmp_path / side / "adapter_model.safetensors" for side in ("ours", "theirs")]
    ours, theirs = (load_file(file) for file in files)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    ours, theirs = (json.loads((file.parent / "adapter_config.json").read_text()) for file in files)
    assert set(ours.pop("target_modules")) == set(theirs.pop("target_modules"))
    assert ours == theirs

    shutil.rmtree(tmp_path / "theirs")
    ids = torch.arange(3, 40)[None]
    plain = PeftModel.from_pretrained(load_base("tiny"), str(tmp_path / "ours")).eval()
    with torch.no_grad(), lora.active(backbone.model, lora.SHARED):
        truth, found = backbone.model(input_ids=ids).logits, plain(input_ids=ids).logits
        assert torch.allclose(truth, found, atol=1e-5)
        assert not torch.allclose(load_base("tiny")(input_ids=ids).logits, found, atol=1e-2)


@pytest.mark.long
def test_the_default_model_means_the_same_in_both_engines() -> None:
    """SmolLM2's own Q4_1 file with an adapter that was really fitted: tokens, then the effect.

    llama.cpp quantises activations there: single probabilities differ by a tenth of a nat, and the
    mean over some hundred tokens by a hundredth. A lost or doubled adapter differs by its effect.
    """
    from client.assistant.engine import open_engine
    from client.learning.personal import train
    from common.records.records import record_of
    from simulations.evidence.benchmarks.chat_agreement import llamacpp_differs

    settings = Settings.of(users=3, examples=16, personal_epochs=2)
    records = []
    for number in range(20):
        for author, words in (("other", f"what about {number}?"), ("me", "arr, tea it be, matey")):
            values = {"text": words, "author": author, "conversation": "c"}
            at = f"2026-01-01T10:{number:02d}:{author == 'me':02d}+00:00"
            records.append(record_of("message", values, at))
    result = train(records, None, settings, key=bytes(32))
    assert result.kept
    native = open_engine(settings, None, result.personal)
    assert native.description.startswith("llama.cpp")
    assert result.personal is not None
    loaded = {"personal": Loaded(result.personal.plan, result.personal.vector)}
    truth = TorchEngine(settings, loaded)
    turns = [Turn(f"what about {word}?", "arr, tea it be, matey") for word in ("rain", "us", "it")]
    assert not llamacpp_differs(settings.model.name, turns)
    effects = []
    for engine in (native, truth):
        tokens = [tokenize(turn, engine.tokenizer) for turn in turns]
        values = [
            np.concatenate([engine.token_log_likelihoods(t, scales) for t in tokens])
            for scales in (Scales(), BASE)
        ]
        effects.append(float((values[0] - values[1]).mean()))
    assert effects[1] > 0.5
    assert abs(effects[0] - effects[1]) < 0.1 * effects[1]
    native.close()
