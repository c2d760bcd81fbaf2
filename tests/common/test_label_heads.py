"""The heads of labels: a part of both adapters, learnt example by example under DP-SGD."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from client.learning.training import train_shared
from common.adapter import lora
from common.adapter.peft_io import save_vector
from common.adapter.plan import BOTH, AdapterPlan, HeadSite, Site
from common.adapter.weights import Shared, whole
from common.errors import InputError
from common.learning.backbone import Backbone, adapter_plans, backbone_for
from common.privacy.accountant import Release
from common.records.records import record_of
from common.settings import Settings
from common.tasks import task_of
from simulations.devices import SeededRandomness

SENTENCES = ("Anna sees Rome", "it rains", "Bela is in Oslo today", "no")
TAGS = ("B-PER O B-LOC", "O O", "B-PER O O B-LOC O", "O")


MODELS = ("tiny", "tiny-bert")


def settings(task: str, **more: object) -> Settings:
    labels = {"classify": "good|bad|so so", "tag": "PER|LOC"}[task]
    given = {"learning_rate": 1.0, "sample_rate": 1.0, "layers": 1, "model": "tiny", **more}
    return Settings.of(task=task, labels=labels, users=3, examples=4, **given)  # type: ignore[arg-type]


def backbone(chosen: Settings) -> Backbone:
    return Backbone(task_of(chosen.task), chosen.model.name, *adapter_plans(chosen))


def examples(chosen: Settings) -> list[object]:
    names = ("good", "bad", "so so", "good")
    records = [
        record_of("tagged", {"tokens": s.split(), "tags": t.split()})
        if chosen.task.name == "tag"
        else record_of("example", {"text": s, "label": n})
        for s, t, n in zip(SENTENCES, TAGS, names, strict=True)
    ]
    return list(task_of(chosen.task).examples(records))


def test_a_head_is_one_more_site_with_a_rank_of_its_own() -> None:
    site = HeadSite("label_head", 17, 5, 17)
    plan = AdapterPlan("toy", (Site("layer", 3, 4), site), 2, 2.0, 0, "ffa")
    assert plan.head == site
    assert [plan.shape(one, part) for one, part, _ in plan.entries(BOTH)] == [
        (2, 3), (4, 2), (17, 17), (5, 17),
    ]  # fmt: skip
    start = plan.initial(BOTH)
    assert np.array_equal(start[14 : 14 + 289].reshape(17, 17), np.eye(17))
    assert plan.digest() != replace(plan, sites=plan.sites[:1]).digest()


def test_without_a_head_a_plan_is_named_as_before() -> None:
    plan = AdapterPlan("toy", (Site("layer", 3, 4),), 2, 2.0, 0, "ffa")
    assert plan.head is None
    assert "Head" not in repr(plan)


@pytest.mark.parametrize("model_name", MODELS)
@pytest.mark.parametrize("task", ["classify", "tag"])
def test_a_new_head_knows_nothing(task: str, model_name: str) -> None:
    chosen = settings(task, model=model_name)
    model, learnt = backbone(chosen), examples(chosen)
    with model.using():
        score = model.score(model.prepared(learnt))  # type: ignore[arg-type]
    assert score.loss / score.count == pytest.approx(
        np.log(len(task_of(chosen.task).classes)), rel=1e-5
    )


@pytest.mark.parametrize("task", ["classify", "tag"])
@pytest.mark.parametrize("sharing", ["ffa", "fedsa", "lora"])
@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("model_name", MODELS)
def test_training_moves_head_and_layers_and_loss_falls(
    task: str, sharing: str, private: bool, model_name: str
) -> None:
    rate = {"learning_rate": 1.0 if private else 0.03}
    chosen = settings(
        task, sharing=sharing, head_rank=4, local_steps=12, dp=private, model=model_name, **rate
    )
    model, learnt = backbone(chosen), examples(chosen)
    prepared = model.prepared(learnt)  # type: ignore[arg-type]
    start = Shared(model.shared, model.shared.initial(model.shared.sent))
    release = Release(1e-3, 1.0, 12) if private else None
    random = SeededRandomness(0, 0).stream("test")
    found = train_shared(model, start, None, prepared, chosen, release, random)
    after = whole(Shared(model.shared, found.sent), found.kept if len(found.kept) else None)
    moved = {
        site.module: not np.array_equal(after[place], whole(start)[place])
        for site, part, place in model.shared.entries(BOTH)
        if part in model.shared.sent
    }
    assert moved and all(moved.values())
    with model.using():
        before = model.score(prepared)
    with model.using(after):
        assert model.score(prepared).loss < before.loss


@pytest.mark.parametrize("model_name", MODELS)
@pytest.mark.parametrize("task", ["classify", "tag"])
def test_an_examples_gradient_does_not_depend_on_its_neighbours(task: str, model_name: str) -> None:
    """The clipped sum over all examples is the sum of each one's own, of any length."""
    chosen = settings(task, max_grad_norm=0.1, model=model_name)
    model, learnt = backbone(chosen), examples(chosen)
    prepared = model.prepared(learnt)  # type: ignore[arg-type]
    start = Shared(model.shared, model.shared.initial(model.shared.sent))

    def moved(some: list) -> np.ndarray:  # type: ignore[type-arg]
        release = Release(1e-12, 1.0, 1)
        random = SeededRandomness(0, 0).stream("test")
        found = train_shared(model, start, None, some, chosen, release, random)
        return (found.sent - start.vector).astype(np.float64)

    each = [moved([one]) for one in prepared]
    assert np.allclose(moved(prepared), sum(each), atol=1e-6)
    bound = 0.1 / 4  # C over the divisor, the learning rate being 1
    assert all(np.linalg.norm(one) <= bound * (1 + 1e-5) for one in each)


@pytest.mark.parametrize("model_name", MODELS)
@pytest.mark.parametrize("task", ["classify", "tag"])
def test_padding_changes_nothing(task: str, model_name: str) -> None:
    chosen = settings(task, model=model_name)
    model, learnt = backbone(chosen), examples(chosen)
    prepared = model.prepared(learnt)  # type: ignore[arg-type]
    random = np.random.default_rng(0)
    weights = random.normal(0, 0.3, model.shared.size(BOTH)).astype(np.float32)
    with model.using(weights):
        alone = [model.score([one]).loss for one in prepared]
        together = model.score(prepared).loss
    assert together == pytest.approx(sum(alone), rel=1e-5)


def test_a_head_can_learn_alone_and_then_every_layer_is_cached() -> None:
    chosen = settings("classify", modules="", personal_modules="")
    model = backbone(chosen)
    assert [site.module for site in model.shared.sites] == [lora.HEAD]
    assert model.first_layer == 2
    (one, *_) = model.prepared(examples(chosen)[:1])  # type: ignore[arg-type]
    assert one.entry.is_floating_point()
    assert model.shortcut
    with pytest.raises(InputError, match="No module is named"):
        adapter_plans(Settings.of(model="tiny", modules=""))


def test_without_labels_nothing_is_planned() -> None:
    with pytest.raises(InputError, match="needs to know its labels"):
        adapter_plans(Settings.of(task="tag", model="tiny"))


def test_labels_are_part_of_what_all_agree_on() -> None:
    one, other = settings("tag"), settings("tag").but(labels="PER|ORG")
    assert one.digest() != other.digest()
    assert backbone_for(one).task.classes != backbone_for(other).task.classes


def test_plain_peft_loads_the_head(tmp_path: Path) -> None:
    from peft import PeftModel

    from common.models import load_base

    chosen = settings("tag", head_rank=4)
    model = backbone(chosen)
    vector = np.random.default_rng(1).normal(0, 0.3, model.shared.size(BOTH)).astype(np.float32)
    save_vector(model.shared, vector, tmp_path)
    base = load_base("tiny")
    head = model.shared.head
    assert head is not None
    base.add_module(lora.HEAD, torch.nn.Linear(head.d_in, head.d_out, bias=False))
    torch.nn.init.zeros_(base.get_submodule(lora.HEAD).weight)
    loaded = PeftModel.from_pretrained(base, str(tmp_path))
    read = lora.read(loaded, "default", model.shared, BOTH)
    assert np.array_equal(read, vector)
    state = torch.ones(1, 1, head.d_in)
    with model.using(vector):
        ours = model.model.get_base_model().get_submodule(lora.HEAD)(state)
    assert torch.allclose(loaded.get_base_model().get_submodule(lora.HEAD)(state), ours)
