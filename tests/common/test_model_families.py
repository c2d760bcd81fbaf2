"""GPT-2, Qwen, Gemma and Llama by path, tiny and random: the adapter and the private step fit each.

Oracle: transformers' own model and loss, one example at a time, and plain autograd.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from client.learning.training import train_shared
from common.adapter import lora
from common.adapter.peft_io import save_vector
from common.adapter.plan import BOTH, AdapterPlan, Vector
from common.adapter.weights import Shared, whole
from common.learning.backbone import Backbone, adapter_plans
from common.models import load_base, load_tokenizer
from common.privacy.accountant import Release
from common.settings import Settings
from common.system.quiet import no_warnings
from common.tasks import TASKS
from common.tasks.chat import Turn, tokenize
from common.tasks.task import Encoded
from simulations.devices import SeededRandomness

WIDTH, LAYERS, TOKENS = 16, 3, 300
SMALL = {
    "vocab_size": TOKENS, "hidden_size": WIDTH, "intermediate_size": 32, "head_dim": 8,
    "num_hidden_layers": LAYERS, "num_attention_heads": 2, "num_key_value_heads": 1,
    "initializer_range": 0.3, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
WINDOWS = {  # longer than what is probed when a model is loaded, shorter than most examples
    "use_sliding_window": True, "sliding_window": 30,
    "layer_types": ["full_attention", "full_attention", "sliding_attention"],
}  # fmt: skip
MODULES = "q_proj,v_proj,o_proj,down_proj"  # the names that the defaults use

# Whether the layers below the adapters are left out: measured for each when it is loaded.
SHORT = {
    "llama": True, "qwen2": True, "qwen3": True, "gemma": True, "gpt2": False,
    "gemma2": False, "gemma3_text-windows": False, "qwen2-windows": False,
}  # fmt: skip


def configuration(family: str) -> Any:
    from transformers import AutoConfig

    if family == "gpt2":
        return AutoConfig.for_model(
            "gpt2", vocab_size=TOKENS, n_embd=WIDTH, n_layer=LAYERS, n_head=2, n_positions=256,
            initializer_range=0.3, bos_token_id=0, eos_token_id=2,
        )  # fmt: skip
    name, _, windows = family.partition("-")
    return AutoConfig.for_model(name, **SMALL, **(WINDOWS if windows else {}))


@pytest.fixture(params=SHORT)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    from transformers import AutoModelForCausalLM

    folder = tmp_path / request.param
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(configuration(request.param))
    with torch.no_grad():  # norms and biases start at 1 and 0, and would hide a fault
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    load_tokenizer("tiny").save_pretrained(folder)
    return Settings.of(
        model=str(folder), modules=MODULES, personal_modules="q_proj,v_proj", layers=1, users=3,
        rank=2, examples=6,
    )  # fmt: skip


@pytest.fixture
def backbone(settings: Settings) -> Backbone:
    return Backbone(TASKS["chat"], settings.model.name, *adapter_plans(settings))


def random_vector(plan: AdapterPlan, parts: tuple[str, ...]) -> Vector:
    chance = np.random.default_rng(1)
    return chance.normal(scale=0.3, size=plan.size(parts)).astype(np.float32)


def examples(backbone: Backbone) -> list[Encoded]:
    turns = [Turn(f"what of {i} " * (i + 1), f"it is {i} " * (1 + i % 3)) for i in range(6)]
    return [tokenize(turn, backbone.tokenizer) for turn in turns]


def own_loss(model: Any, example: Encoded) -> Tensor:
    """The mean over the example's predictions, as transformers computes it."""
    labels = torch.tensor([example.labels])
    labels[labels < 0] = -100
    loss: Tensor = model(input_ids=torch.tensor([example.ids]), labels=labels).loss
    return loss


def test_losses_are_those_of_a_model_with_the_adapter_added_to_its_weights(
    backbone: Backbone, settings: Settings
) -> None:
    """W + (α/r)·B·A by hand. GPT-2's Conv1D keeps its weights the other way round."""
    vector = random_vector(backbone.shared, BOTH)
    merged = load_base(settings.model.name)
    parts = {(site, part): place for site, part, place in backbone.shared.entries(BOTH)}
    with torch.no_grad():
        for site in backbone.shared.sites:
            a, b = (
                vector[parts[site, part]].reshape(backbone.shared.shape(site, part))
                for part in BOTH
            )
            added = torch.tensor(backbone.shared.scaling * b @ a)
            weight = merged.get_submodule(site.module).weight
            weight += added.T if "gpt2" in settings.model.name else added
    encoded = examples(backbone)
    with backbone.using(vector):
        scores = [backbone.score(backbone.prepare([one])) for one in encoded]
    with torch.no_grad():
        theirs = [float(own_loss(merged, one)) for one in encoded]
    assert [s.loss / s.count for s in scores] == pytest.approx(theirs, rel=1e-4)
    assert backbone.shortcut == SHORT[Path(settings.model.name).name]


def test_both_paths_give_equal_losses(backbone: Backbone) -> None:
    encoded = examples(backbone)
    with backbone.using(random_vector(backbone.shared, BOTH)):
        one = backbone.score(backbone.prepare(encoded))
        backbone.shortcut = False
        other = backbone.score(backbone.prepare(encoded))
    assert one.loss == pytest.approx(other.loss, rel=1e-5)
    assert one.count == other.count


def test_a_private_step_clips_the_gradient_of_each_example_alone(
    backbone: Backbone, settings: Settings
) -> None:
    plan, encoded = backbone.shared, examples(backbone)
    start = random_vector(plan, plan.sent)
    gradients = []
    with backbone.using(whole(Shared(plan, start))):
        for example in encoded:
            with lora.trainable(backbone.model, lora.SHARED, plan) as layers:
                own_loss(backbone.model, example).backward()  # type: ignore[no-untyped-call]
                found = [p.grad.numpy().ravel() for p in layers.parameters() if p.grad is not None]
                gradients.append(np.concatenate(found))
    norms = [float(np.linalg.norm(gradient)) for gradient in gradients]
    clip = float(np.median(norms))
    clipped = sum(g * min(1.0, clip / n) for g, n in zip(gradients, norms, strict=True))

    chosen = Settings.of(**settings.to_dict() | {"max_grad_norm": clip})  # type: ignore[arg-type]
    trained = train_shared(
        backbone, Shared(plan, start), None, backbone.prepare(encoded), chosen,
        Release(0.0, 1.0, 1), SeededRandomness(0, 0).stream("noise"),
    )  # fmt: skip
    assert gradients[0].shape == (plan.dimension,)
    assert min(norms) < clip < max(norms)  # some are clipped and some are not
    assert np.allclose(trained.sent - start, -clipped / 6, rtol=2e-3, atol=1e-5 * clip)


def test_plain_peft_loads_what_is_published(
    backbone: Backbone, settings: Settings, tmp_path: Path
) -> None:
    from peft import PeftModel

    vector = random_vector(backbone.shared, BOTH)
    save_vector(backbone.shared, vector, tmp_path / "published")
    with no_warnings("fan_in_fan_out"):
        plain = PeftModel.from_pretrained(
            load_base(settings.model.name), str(tmp_path / "published")
        )
    ids = torch.arange(3, 40)[None]
    with torch.no_grad(), backbone.using(vector):
        ours = backbone.model(input_ids=ids).logits
        assert torch.allclose(ours, plain.eval()(input_ids=ids).logits, atol=1e-4)
