"""Adapters: order and seeds, PEFT round trip, the short cut, what may not travel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.learning.training import train_personal, train_shared
from common.adapter import lora
from common.adapter.peft_io import save_adapter
from common.adapter.plan import BOTH, AdapterPlan, Site, seeded_a
from common.adapter.weights import Personal, Shared, decode_shared, encode_shared
from common.errors import DecodeError
from common.learning.backbone import Backbone, adapter_plans, backbone_for
from common.models import load_base
from common.privacy.accountant import Release
from common.settings import Settings
from common.tasks import TASKS
from common.tasks.chat import Turn, tokenize
from simulations.devices import SeededRandomness

SETTINGS = Settings.of(model="tiny", users=5, examples=8, modules="q_proj,v_proj", rank=2, layers=1)


@pytest.fixture
def backbone() -> Backbone:
    return backbone_for(SETTINGS)


def turns(count: int = 9) -> list[Turn]:
    return [Turn(f"what of {i} " * (i + 1), f"it is {i} " * (1 + i % 3)) for i in range(count)]


def prepared(backbone: Backbone) -> list:  # type: ignore[type-arg]
    return backbone.prepare([tokenize(turn, backbone.tokenizer) for turn in turns()])


def random_vector(plan: AdapterPlan, parts: tuple[str, ...], seed: int) -> np.ndarray:  # type: ignore[type-arg]
    chance = np.random.default_rng(seed)
    return chance.normal(scale=0.3, size=plan.size(parts)).astype(np.float32)


def test_seeded_a_is_pinned_and_has_unit_rows() -> None:
    a = seeded_a(7, Site("model.layers.0.self_attn.v_proj", 576, 192), 4)
    assert a.shape == (4, 576)
    assert np.allclose(np.linalg.norm(a, axis=1), 1.0, atol=0.1)
    assert a[0, :3].tolist() == PINNED
    assert not np.array_equal(a, seeded_a(8, Site("model.layers.0.self_attn.v_proj", 576, 192), 4))


PINNED = [0.06562896072864532, 0.03537414222955704, -0.0168017391115427]


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 4), st.integers(0, 3))
def test_vectors_come_back_as_they_went_in(rank: int, seed: int) -> None:
    plans = adapter_plans(Settings.of(model="tiny", modules="q_proj,v_proj", rank=rank))
    backbone = Backbone(TASKS["chat"], "tiny", *plans)
    vector = random_vector(plans[0], BOTH, seed)
    lora.write(backbone.model, lora.SHARED, plans[0], BOTH, vector)
    assert np.array_equal(lora.read(backbone.model, lora.SHARED, plans[0], BOTH), vector)


def test_plain_peft_loads_what_was_saved(backbone: Backbone, tmp_path: Path) -> None:
    from peft import PeftModel

    for name, plan in ((lora.SHARED, backbone.shared), (lora.PERSONAL, backbone.personal)):
        lora.write(backbone.model, name, plan, BOTH, random_vector(plan, BOTH, 1))
        save_adapter(backbone.model, name, tmp_path / name)
        ids = torch.arange(3, 40)[None]
        with torch.no_grad(), lora.active(backbone.model, name):
            ours = backbone.model(input_ids=ids).logits
        plain = PeftModel.from_pretrained(load_base("tiny"), str(tmp_path / name)).eval()
        with torch.no_grad():
            theirs = plain(input_ids=ids).logits
            base = load_base("tiny")(input_ids=ids).logits
        assert torch.allclose(ours, theirs, atol=1e-5)
        assert not torch.allclose(ours, base, atol=1e-2)
        assert str(tmp_path) not in (tmp_path / name / "adapter_config.json").read_text()


def test_the_short_cut_gives_the_losses_of_the_whole_model(backbone: Backbone) -> None:
    """Oracle: transformers' own loss, one example at a time, through every layer."""
    lora.write(backbone.model, lora.SHARED, backbone.shared, BOTH,
               random_vector(backbone.shared, BOTH, 2))  # fmt: skip
    assert backbone.shortcut
    assert backbone.first_layer == 1
    tokens = [tokenize(turn, backbone.tokenizer) for turn in turns()]
    with torch.no_grad(), lora.active(backbone.model, lora.SHARED):
        ours = backbone.score(backbone.prepare(tokens))
        nll, count = 0.0, 0
        for example in tokens:
            labels = torch.tensor([example.labels])
            labels[labels < 0] = -100
            loss = backbone.model(input_ids=torch.tensor([example.ids]), labels=labels).loss
            predicted = int((labels[:, 1:] >= 0).sum())
            nll, count = nll + float(loss) * predicted, count + predicted
    assert ours.count == count
    assert ours.loss == pytest.approx(nll, rel=1e-5)


def test_swapping_the_personal_adapter_leaves_the_shared_update_bit_identical(
    backbone: Backbone,
) -> None:
    plan = backbone.shared
    start = Shared(plan, plan.initial(plan.sent))
    release = Release(1.0, 0.5, 2)
    examples = prepared(backbone)
    updates = []
    for seed in (1, 2):
        personal = random_vector(backbone.personal, BOTH, seed)
        lora.write(backbone.model, lora.PERSONAL, backbone.personal, BOTH, personal)
        random = SeededRandomness(5, 0).stream("noise")
        trained = train_shared(backbone, start, None, examples, SETTINGS, release, random)
        updates.append(trained.sent)
    assert np.array_equal(updates[0], updates[1])
    assert not np.array_equal(updates[0], start.vector)


def test_what_is_used_does_not_depend_on_what_was_used_before(backbone: Backbone) -> None:
    examples = prepared(backbone)
    one, other = (random_vector(backbone.shared, BOTH, seed) for seed in (3, 4))
    mine = random_vector(backbone.personal, BOTH, 5)
    with backbone.using():
        base = backbone.score(examples)
    with backbone.using(one):
        first = backbone.score(examples)
    with backbone.using(other, mine):
        assert backbone.score(examples) not in (base, first)
    with backbone.using(one):
        assert backbone.score(examples) == first
    with backbone.using():
        assert backbone.score(examples) == base


def test_personal_training_moves_only_the_personal_adapter(backbone: Backbone) -> None:
    shared = random_vector(backbone.shared, BOTH, 3)
    examples = prepared(backbone)
    with backbone.using(shared):
        before = backbone.score(examples).loss
    random = SeededRandomness(0, 0).stream("personal")
    personal, _ = train_personal(
        backbone, examples, SETTINGS.personal, SETTINGS.training, random, shared=shared
    )
    with backbone.using(shared, personal.vector):
        assert backbone.score(examples).loss < before
    assert np.array_equal(lora.read(backbone.model, lora.SHARED, backbone.shared, BOTH), shared)


def test_per_sample_gradients_through_the_model_are_those_of_one_example_alone(
    backbone: Backbone,
) -> None:
    """A noiseless private step over all examples against one plain backward per example."""
    plan, examples = backbone.shared, prepared(backbone)
    clip = 0.25
    start = Shared(plan, random_vector(plan, plan.sent, 4))
    chosen = Settings.of(
        model="tiny", users=5, examples=9, modules="q_proj,v_proj", rank=2, layers=1,
        max_grad_norm=clip, learning_rate=1.0,
    )  # fmt: skip
    release = Release(0.0, 1.0, 1)
    random = SeededRandomness(0, 0).stream("noise")
    trained = train_shared(backbone, start, None, examples, chosen, release, random)
    total, norms = np.zeros(plan.dimension), []
    lora.write(backbone.model, lora.SHARED, plan, plan.sent, start.vector)
    for example in examples:
        with (
            lora.active(backbone.model, lora.SHARED),
            lora.trainable(backbone.model, lora.SHARED, plan) as layers,
        ):
            (batch,) = backbone.batches([example])
            nll, tokens = backbone.losses(batch)
            (nll / tokens).sum().backward()
            gradient = np.concatenate([p.grad.numpy().ravel() for p in layers.parameters()])
        norms.append(float(np.linalg.norm(gradient)))
        total += gradient * min(1.0, clip / norms[-1])
    assert min(norms) < clip < max(norms)  # some are clipped and some are not
    assert np.allclose(trained.sent - start.vector, -total / 9, rtol=2e-3, atol=1e-7)


def test_only_a_shared_adapter_has_a_wire_form(backbone: Backbone) -> None:
    plan = backbone.shared
    shared = Shared(plan, random_vector(plan, plan.sent, 5))
    assert np.array_equal(decode_shared(plan, encode_shared(shared)).vector, shared.vector)
    personal = Personal(backbone.personal, random_vector(backbone.personal, BOTH, 6))
    with pytest.raises(TypeError, match="Personal"):
        encode_shared(personal)  # type: ignore[arg-type]
    assert repr(personal) == "Personal(redacted)"


def test_a_malformed_shared_adapter_is_refused(backbone: Backbone) -> None:
    plan = backbone.shared
    whole = encode_shared(Shared(plan, plan.initial(plan.sent)))
    with pytest.raises(DecodeError):
        decode_shared(plan, whole + b"\x00")
    with pytest.raises(DecodeError):
        decode_shared(plan, np.full(plan.dimension, np.nan, "<f4").tobytes())
