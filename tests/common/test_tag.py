"""The tag task: how tags meet a model's tokens, and how what was found is counted."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from common.errors import InputError
from common.models import load_tokenizer
from common.records.records import Record, record_of
from common.tasks import TASKS, counts, task_of
from common.tasks.tag import MAX_TOKENS, Tag, TagScore, spans
from common.tasks.task import NOTHING


@pytest.fixture
def task() -> Tag:
    found = task_of(SimpleNamespace(name="tag", labels="LOC|PER"))
    assert isinstance(found, Tag)
    return found


def tagged(words: str, tags: str) -> Record:
    return record_of("tagged", {"tokens": words.split(), "tags": tags.split()})


def scored(task: Tag, told: list[str], true: list[str]) -> TagScore:
    number = {name: index for index, name in enumerate(task.classes)}
    outputs = torch.nn.functional.one_hot(torch.tensor([number[t] for t in told]), 5).float()
    wanted = torch.tensor([number[t] for t in true])
    return task.score(1.0, outputs, torch.zeros(len(told), dtype=torch.long), wanted)


def test_classes_are_outside_and_beginning_and_inside_of_each_kind(task: Tag) -> None:
    assert task.classes == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert TASKS["tag"].labels_of([tagged("a b c", "O B-ORG B-PER")]) == {"ORG", "PER"}


def test_a_words_last_piece_carries_its_tag(task: Tag) -> None:
    tokenizer = load_tokenizer("tiny")  # a byte a token
    (example,) = task.examples([tagged("Anna sees Rome", "B-PER O B-LOC")])
    encoded = task.encode(example, tokenizer)
    assert tokenizer.decode(list(encoded.ids)) == "Anna sees Rome"
    assert [(place, label) for place, label in enumerate(encoded.labels) if label >= 0] == [
        (3, 3), (8, 0), (13, 1),
    ]  # fmt: skip


def test_a_kind_that_is_not_the_federations_is_neither_tag_nor_outside(task: Tag) -> None:
    (example,) = task.examples([tagged("Anna at Acme", "B-PER O B-ORG")])
    encoded = task.encode(example, load_tokenizer("tiny"))
    assert [label for label in encoded.labels if label != NOTHING] == [3, 0]
    assert (
        task.examples([tagged("Acme", "B-ORG"), record_of("tagged", {"tokens": [], "tags": []})])
        == []
    )


def test_a_long_sentence_is_cut_and_a_word_cut_in_two_keeps_its_tag(task: Tag) -> None:
    tokenizer = load_tokenizer("tiny")
    (long,) = task.examples([tagged(" ".join(["ab"] * 300), " ".join(["B-PER"] * 300))])
    encoded = task.encode(long, tokenizer)
    assert len(encoded.ids) == len(encoded.labels) == MAX_TOKENS
    (word,) = task.examples([tagged("x" * 1000, "B-LOC")])
    assert [one for one in task.encode(word, tokenizer).labels if one >= 0] == [1]


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O O", []),
        ("B-PER I-PER O", [("PER", 0, 2)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("I-PER I-PER", [("PER", 0, 2)]),  # a model's tags need not be well-formed
        ("B-PER I-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),
        ("O B-LOC I-LOC I-LOC", [("LOC", 1, 4)]),
        ("B-PER O I-PER", [("PER", 0, 1), ("PER", 2, 3)]),
    ],
)
def test_entities_are_told_from_tags(tags: str, found: list[tuple[str, int, int]]) -> None:
    assert list(spans(tags.split())) == found


def test_an_entity_is_right_when_kind_and_both_ends_are(task: Tag) -> None:
    true = ["B-PER", "I-PER", "O", "B-LOC", "O", "B-LOC"]
    told = ["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "B-PER"]
    score = scored(task, told, true)
    assert score.counts()["entities"] == {"LOC": [0, 1, 2], "PER": [1, 2, 1]}
    # right 1, found 3, there 3
    assert score.metrics()["f1"] == pytest.approx(1 / 3)
    assert score.counts()["tokens"] == {
        "B-LOC": [1, 1, 2], "B-PER": [1, 2, 1], "I-LOC": [0, 1, 0], "I-PER": [1, 1, 1],
    }  # fmt: skip
    assert score.counts()["tokens with O"]["O"] == [1, 1, 2]
    assert score.metrics()["token_accuracy"] == pytest.approx(4 / 6)
    assert score.metrics()["token_micro_f1"] == pytest.approx(2 * 3 / (5 + 4))


def test_entities_of_two_sentences_are_not_one(task: Tag) -> None:
    outputs = torch.nn.functional.one_hot(torch.tensor([3, 4]), 5).float()
    score = task.score(1.0, outputs, torch.tensor([0, 1]), torch.tensor([3, 4]))
    assert score.counts()["entities"] == {"PER": [2, 2, 2]}


def test_figures_are_those_of_all_sentences_however_they_are_added(task: Tag) -> None:
    first = scored(task, ["B-PER", "O"], ["B-PER", "B-LOC"])
    second = scored(task, ["O", "B-LOC"], ["O", "B-LOC"])
    both = task.nothing() + first + second
    assert both.metrics()["f1"] == pytest.approx(2 * 2 / (2 + 3))
    assert both.counts()["entities"] == {"LOC": [1, 1, 2], "PER": [1, 1, 1]}


def test_a_table_has_its_means_as_scikit_learn_has_them() -> None:
    """Figures of scikit-learn 1.9's classification_report for these counts, by hand."""
    rows = {row.kind: row for row in counts.rows({"a": [2, 4, 3], "b": [1, 1, 2], "c": [0, 0, 0]})}
    assert list(rows) == ["a", "b", "micro", "macro", "weighted"]
    assert (rows["a"].precision, rows["a"].recall) == (0.5, pytest.approx(2 / 3))
    assert rows["a"].f1 == pytest.approx(4 / 7)
    assert rows["micro"].f1 == pytest.approx(6 / 10)
    assert rows["macro"].f1 == pytest.approx((4 / 7 + 2 / 3) / 2)
    assert rows["weighted"].f1 == pytest.approx((3 * 4 / 7 + 2 * 2 / 3) / 5)
    assert rows["weighted"].support == 5
    assert counts.rows({}) == []


@pytest.mark.parametrize(
    ("tokens", "tags"),
    [
        (["a"], []),
        (["a"], ["I-PER"]),
        (["a", "b"], ["B-PER", "I-LOC"]),
        (["a"], ["PER"]),
        (["a"], ["B-"]),
        (["a"], [1]),
        ([1], ["O"]),
    ],
)
def test_tags_that_are_none_are_refused_unquoted(tokens: list[str], tags: list[str]) -> None:
    with pytest.raises(InputError, match=r"tags") as caught:
        record_of("tagged", {"tokens": tokens, "tags": tags})
    assert "PER" not in caught.value.message
