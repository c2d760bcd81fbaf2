"""The classify task: which texts become examples, what is learnt of them, and how sure it is."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.models import load_tokenizer
from common.records.records import Record, record_of
from common.tasks import TASKS, labels, task_of
from common.tasks.classify import MAX_TOKENS, UNSURE, Classify, LabelScore

COLOURS = ("blue", "green", "red")


@pytest.fixture
def task() -> Classify:
    found = task_of(SimpleNamespace(name="classify", labels="blue|green|red"))
    assert isinstance(found, Classify)
    return found


def labelled(
    text: str, label: str | None = None, at: str | None = None, **chances: float
) -> Record:
    said = {"label": label} if label else {"probabilities": chances}
    return record_of("example", {"text": text, **said}, at)


def scored(task: Classify, logits: list[list[float]], wanted: list[list[float]]) -> LabelScore:
    outputs, targets = torch.tensor(logits), torch.tensor(wanted)
    loss = float(task.losses(outputs, targets).sum())
    return task.score(loss, outputs, torch.arange(len(logits)), targets)


def test_a_text_with_a_label_of_the_federation_is_an_example_and_no_other(task: Classify) -> None:
    found = task.examples(
        [
            labelled("the sky", "blue", "2026-01-02T00:00:00Z"),
            labelled("coal", "black"),
            labelled(" ", "red"),
            labelled("grass", "green", "2026-01-01T00:00:00Z"),
            labelled("a sunset", red=0.75, blue=0.25),
            labelled("dusk", red=0.5, violet=0.5),
            record_of("fact", {"text": "the sky is blue"}),
        ]
    )
    assert [(one.text, dict(one.probabilities)) for one in found] == [
        ("grass", {"green": 1.0}),
        ("the sky", {"blue": 1.0}),
        ("a sunset", {"blue": 0.25, "red": 0.75}),
    ]
    assert "sky" not in repr(found[1])


def test_every_label_that_records_use_is_found_out(task: Classify) -> None:
    records = [labelled("a", "blue"), labelled("b", black=0.5, white=0.5, red=0.0)]
    assert TASKS["classify"].labels_of(records) == {"blue", "black", "white"}


def test_an_example_is_its_text_in_a_frame_and_a_chance_for_each_label(task: Classify) -> None:
    tokenizer = load_tokenizer("tiny")
    (example,) = task.examples([labelled("dusk", red=3 / 4, blue=1 / 4)])
    encoded = task.encode(example, tokenizer)
    assert tokenizer.decode(list(encoded.ids)) == "dusk"
    assert encoded.labels == (0.25, 0.0, 0.75)
    (long,) = task.examples([labelled("x" * 500, "red")])
    assert len(task.encode(long, tokenizer).ids) == MAX_TOKENS


def test_control_tokens_in_a_text_are_its_signs(task: Classify) -> None:
    tokenizer = load_tokenizer("tiny")
    (example,) = task.examples([labelled("<|im_end|>", "red")])
    ids = task.encode(example, tokenizer).ids
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(list(ids)) == "<|im_end|>"


def test_of_a_certain_label_the_divergence_is_the_cross_entropy(task: Classify) -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    wanted = torch.tensor([0, 2, 1, 1, 0])
    certain = torch.nn.functional.one_hot(wanted, 3).float()
    expected = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
    torch.testing.assert_close(task.losses(logits, certain), expected)


def test_the_divergence_is_least_where_the_answer_is_what_is_wanted(task: Classify) -> None:
    wanted = torch.tensor([[0.2, 0.3, 0.5]])
    at_it = float(task.losses(wanted.log(), wanted))
    assert at_it == pytest.approx(0.0, abs=1e-6)
    assert float(task.losses(torch.zeros(1, 3), wanted)) > 0.05


def test_figures_are_those_of_all_texts_however_they_are_added(task: Classify) -> None:
    logits = [[3.0, 0, 0], [0, 3.0, 0], [3.0, 0, 0], [0, 0, 3.0]]
    wanted = [[1.0, 0, 0], [0, 1.0, 0], [0, 1.0, 0], [0, 0, 1.0]]
    whole = scored(task, logits, wanted)
    parts = task.nothing()
    for one, right in zip(logits, wanted, strict=True):
        parts += scored(task, [one], [right])
    assert whole.metrics() == pytest.approx(parts.metrics())
    assert whole.metrics()["accuracy"] == 0.75
    # blue: 1 right of 2 answered; green: 1 right, 1 missed; red: right
    assert whole.metrics()["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert whole.counts() == {"labels": {"blue": [1, 2, 1], "green": [1, 1, 2], "red": [1, 1, 1]}}


def test_the_temperature_makes_answers_as_sure_as_they_are_right(task: Classify) -> None:
    """Logits that are too large by 4, of answers that are right in proportion."""
    chance = np.random.default_rng(0)
    honest = chance.normal(0, 1.5, (4000, 3))
    shares = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    wanted = np.eye(3)[[chance.choice(3, p=p) for p in shares]].tolist()
    assert scored(task, (4 * honest).tolist(), wanted).temperature == pytest.approx(4, rel=0.15)


def test_an_answer_that_is_not_likely_is_unsure(task: Classify) -> None:
    sure, unsure = torch.tensor([4.0, 0, 0]), torch.tensor([0.3, 0.2, 0.1])
    assert task.answer(sure, 1.0) == ("blue", pytest.approx(math.exp(4) / (math.exp(4) + 2)))
    assert task.answer(unsure, 1.0)[0] == UNSURE
    assert task.answer(sure, 10.0)[0] == UNSURE  # the same logits, known to be too sure of


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("red", "learns nothing"),
        ("red||blue", "empty label"),
        ("red|blue|red", "'red' twice"),
        ("|".join(map(str, range(1001))), "1000 is the most"),
    ],
)
def test_labels_that_cannot_be_are_refused(setting: str, words: str) -> None:
    with pytest.raises(InputError, match=words.replace("|", r"\|")):
        task_of(SimpleNamespace(name="classify", labels=setting))


def test_a_task_without_labels_has_no_use_for_them() -> None:
    with pytest.raises(InputError, match="--labels changes nothing with --task chat"):
        task_of(SimpleNamespace(name="chat", labels="red|blue"))


def test_a_label_with_the_sign_that_parts_labels_is_refused() -> None:
    assert labels.split(labels.joined(COLOURS)) == COLOURS
    with pytest.raises(InputError, match="which parts labels"):
        labels.joined(["a|b"])


@pytest.mark.parametrize(
    "chances", [{"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": True}, {"a": "1"}, {}, {"a": float("nan")}]
)
def test_probabilities_that_are_none_are_refused(chances: dict[str, float]) -> None:
    with pytest.raises(InputError, match="'probabilities'"):
        record_of("example", {"text": "t", "probabilities": chances})
