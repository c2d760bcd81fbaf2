"""The tag task: each token of a sentence → outside, or the beginning or inside of an entity (BIO).

The last piece of a word carries its tag: a model that reads from left to right has read the whole
word there. Entities are scored as CoNLL-2003 does (Tjong Kim Sang and De Meulder, section 2.3): one
is right when its kind and both its ends are.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from common.models.tokens import frame, word_ids
from common.records.records import Record, Tagged
from common.tasks import counts
from common.tasks.counts import Counts
from common.tasks.labelled import LabelTask
from common.tasks.task import NOTHING, Encoded, Head, Metric, Score

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

MAX_TOKENS = 256
OUTSIDE = "O"
ENTITIES, TOKENS, TOKENS_WITH_O = "entities", "tokens", "tokens with O"

Found = TypeVar("Found", bound=Hashable)
Span = tuple[str, int, int]  # kind, first word, and the one after the last


@dataclass(frozen=True, slots=True)
class Sentence:
    """One example: words and their tags. Redacted repr."""

    tokens: tuple[str, ...] = field(repr=False)
    tags: tuple[str, ...] = field(repr=False)
    at: str | None = None
    split: str | None = None

    @property
    def content(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Words and tags."""
        return self.tokens, self.tags


@dataclass(frozen=True, slots=True)
class TagScore:
    """Figures over held-out sentences: loss in nats, tokens, how many right, and tables."""

    loss: float = 0.0
    count: int = 0
    correct: int = 0
    found: Counts = field(default_factory=dict)

    def __add__(self, other: TagScore) -> TagScore:
        return TagScore(
            self.loss + other.loss,
            self.count + other.count,
            self.correct + other.correct,
            counts.added((self.found, other.found)),
        )

    def metrics(self) -> dict[str, float]:
        """F1 of entities, micro and macro F1 of tokens without O, accuracy with it, mean loss."""
        tokens = self.found.get(TOKENS, {})
        return {
            "f1": counts.micro_f1(self.found.get(ENTITIES, {})),
            "token_micro_f1": counts.micro_f1(tokens),
            "token_macro_f1": counts.macro_f1(tokens),
            "token_accuracy": self.correct / self.count,
            "tag_loss": self.loss / self.count,
        }

    def counts(self) -> Counts:
        """Entities by kind; tokens by tag, without and with O."""
        return self.found


class Tag(LabelTask):
    """Say which words name what."""

    name = "tag"
    kinds = frozenset({Tagged.kind})
    head = Head.LABEL_A_TOKEN
    metrics = (
        Metric("f1", "higher", "entity F1", "%", "Entity F1: of kind and both ends right."),
        Metric("token_micro_f1", "higher", "token micro F1", "%"),
        Metric("token_macro_f1", "higher", "token macro F1", "%"),
        Metric("token_accuracy", "higher", "token accuracy", "%"),
        Metric("tag_loss", "lower", "loss", "nats/word"),
    )
    unit = "nats a word"
    source = "tagged sentences"
    one, several = "sentence", "sentences"
    rule = "A sentence is a `tagged` record with at least one word"
    hidden = "one sentence with its tags"
    least = 1

    @property
    def classes(self) -> tuple[str, ...]:
        """Outside, and beginning and inside of each kind."""
        inside = (f"{place}-{label}" for label in self.labels for place in "BI")
        return (OUTSIDE, *inside) if self.labels else ()

    def labels_of(self, records: Sequence[Record]) -> set[str]:
        """The kinds of entities."""
        found = (record for record in records if isinstance(record, Tagged))
        return {tag[2:] for record in found for tag in record.tags if tag != OUTSIDE}

    def examples(self, records: Sequence[Record]) -> list[Sentence]:
        """A sentence a record, in time order, if the task knows a tag of it."""
        known = set(self.classes)
        found = [
            Sentence(tuple(record.tokens), tuple(record.tags), record.at, record.split)
            for record in records
            if isinstance(record, Tagged) and not known.isdisjoint(record.tags)
        ]
        return sorted(found, key=lambda sentence: (sentence.at is None, sentence.at or ""))

    def encode(self, example: Sentence, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Encode as many words as fit; entities of a kind that the task lacks are not learnt."""
        number = {name: index for index, name in enumerate(self.classes)}
        before, after = frame(tokenizer)
        room = MAX_TOKENS - len(before) - len(after)
        ids: list[int] = []
        labels: list[int] = []
        for pieces, tag in zip(word_ids(example.tokens, tokenizer), example.tags, strict=True):
            fits = pieces[: room - len(ids)]
            if not fits:
                continue
            ids += fits
            labels += [NOTHING] * (len(fits) - 1) + [number.get(tag, NOTHING)]
        outer = [NOTHING] * len(before), [NOTHING] * len(after)
        return Encoded((*before, *ids, *after), (*outer[0], *labels, *outer[1]))

    def positions(self, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where a word ends."""
        import torch

        rows, columns = torch.nonzero(labels != NOTHING, as_tuple=True)
        return rows, columns, labels[rows, columns]

    def losses(self, outputs: Tensor, wanted: Tensor) -> Tensor:
        """Cross-entropy."""
        from torch.nn import functional

        return functional.cross_entropy(outputs, wanted, reduction="none")

    def score(self, loss: float, outputs: Tensor, rows: Tensor, wanted: Tensor) -> TagScore:
        """A word's likeliest tag is its answer."""
        answers = outputs.argmax(-1).tolist()
        pairs: dict[int, tuple[list[str], list[str]]] = {}
        for row, answer, right in zip(rows.tolist(), answers, wanted.tolist(), strict=True):
            told, true = pairs.setdefault(row, ([], []))
            told.append(self.classes[answer])
            true.append(self.classes[right])
        found = counts.added(self._compared(*pair) for pair in pairs.values())
        correct = int((outputs.argmax(-1) == wanted).sum())
        return TagScore(loss, len(rows), correct, found)

    def _compared(self, told: Sequence[str], true: Sequence[str]) -> Counts:
        """What one sentence adds to the tables."""
        tokens = _counts(enumerate(told), enumerate(true), lambda one: one[1])
        entities = _counts(spans(told), spans(true), lambda one: one[0])
        without = {kind: numbers for kind, numbers in tokens.items() if kind != OUTSIDE}
        return {ENTITIES: entities, TOKENS: without, TOKENS_WITH_O: tokens}

    def nothing(self) -> TagScore:
        """No sentence."""
        return TagScore()

    def asked(self, text: str) -> Sentence:
        """Words and signs apart, all outside until the model has spoken."""
        words = tuple(re.findall(r"\w+|[^\w\s]", text))
        return Sentence(words, (OUTSIDE,) * len(words))

    def told(self, example: Sentence, outputs: Tensor, score: Score) -> str:  # noqa: ARG002
        """The words, each entity in brackets with its kind; what was cut off is left out."""
        tags = [self.classes[one] for one in outputs.argmax(-1).tolist()]
        words = list(example.tokens[: len(tags)])
        for kind, start, end in reversed(list(spans(tags))):
            words[start:end] = [f"[{' '.join(words[start:end])} {kind}]"]
        return " ".join(words)

    def made_up(self, chance: random.Random, words: Sequence[str]) -> Sentence:
        """Three words, the second of which may be an entity."""
        tag = chance.choice((OUTSIDE, *(f"B-{label}" for label in self.labels)))
        return Sentence(tuple(chance.choices(words, k=3)), (OUTSIDE, tag, OUTSIDE))

    def archive(self, chance: random.Random, words: Sequence[str], count: int) -> list[Record]:
        """Sentences, empty ones too, of entities of known and unknown kinds."""
        return [self._made_up_record(chance, words) for _ in range(count)]

    def _made_up_record(self, chance: random.Random, words: Sequence[str]) -> Record:
        tags: list[str] = []
        for _ in range(chance.choice((0, 1, 2))):
            kind = chance.choice((*self.labels, "another"))
            tags += chance.choice(([OUTSIDE], [f"B-{kind}"], [f"B-{kind}", f"I-{kind}"]))
        return Tagged(tokens=chance.choices(words, k=len(tags)), tags=tags)


def spans(tags: Sequence[str]) -> Iterator[Span]:
    """The entities of a sentence. One that starts with an inside begins there, as in conlleval."""
    start, kind = 0, ""
    for place, tag in enumerate((*tags, OUTSIDE)):
        if kind and tag != f"I-{kind}":
            yield kind, start, place
            kind = ""
        if tag != OUTSIDE and not kind:
            start, kind = place, tag[2:]


def _counts(
    told: Iterable[Found], true: Iterable[Found], kind: Callable[[Found], str]
) -> dict[str, list[int]]:
    """Right, told and true of each kind."""
    these, those = set(told), set(true)
    right, found, there = (Counter(map(kind, one)) for one in (these & those, these, those))
    return {name: [right[name], found[name], there[name]] for name in sorted(found | there)}
