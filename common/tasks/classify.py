"""The classify task: a text → one of the labels, or their probabilities, learnt by KL divergence.

Of a label that is certain the divergence is the cross-entropy. Probabilities are as sure as they
were learnt; dividing the logits by one number, the temperature, makes them as sure as they are
right (Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from common.models.tokens import framed, text_ids
from common.records.records import Labelled, Record
from common.tasks import counts
from common.tasks.counts import Counts
from common.tasks.labelled import LabelTask
from common.tasks.task import Encoded, Head, Metric

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

MAX_TOKENS = 128
TEMPERATURES = tuple(float(t) for t in np.geomspace(0.1, 10.0, 41))
UNSURE = "unsure"
CALIBRATED_BY = 10  # held-out texts; fewer say nothing of a temperature
SURE = 0.5  # an answer less likely than this is none


@dataclass(frozen=True, slots=True)
class Text:
    """One example: a text and how likely each of its labels is. Redacted repr."""

    text: str = field(repr=False)
    probabilities: tuple[tuple[str, float], ...] = field(repr=False)
    at: str | None = None
    split: str | None = None

    @property
    def content(self) -> tuple[str, tuple[tuple[str, float], ...]]:
        """Text and probabilities."""
        return self.text, self.probabilities


@dataclass(frozen=True, slots=True, eq=False)
class LabelScore:
    """Figures over held-out texts.

    Attributes:
        loss: Sum of the divergences, in nats.
        count: Texts.
        confusion: How many of which label were taken for which, [wanted, answered].
        tempered: Sum of the divergences at each of `TEMPERATURES`, in nats.
        labels: Of rows and columns.
    """

    labels: tuple[str, ...]
    loss: float
    count: int
    confusion: NDArray[np.int64]
    tempered: NDArray[np.float64]

    def __add__(self, other: LabelScore) -> LabelScore:
        return LabelScore(
            self.labels,
            self.loss + other.loss,
            self.count + other.count,
            self.confusion + other.confusion,
            self.tempered + other.tempered,
        )

    @property
    def temperature(self) -> float:
        """The one by which these logits are best divided."""
        return TEMPERATURES[int(self.tempered.argmin())]

    def metrics(self) -> dict[str, float]:
        """Accuracy, macro F1 over the labels that were answered or wanted, mean loss in nats."""
        found = self.counts()["labels"]
        return {
            "accuracy": float(np.trace(self.confusion)) / self.count,
            "macro_f1": counts.macro_f1(found),
            "label_loss": self.loss / self.count,
        }

    def counts(self) -> Counts:
        """Right, answered and wanted, of each label."""
        right, table = np.diag(self.confusion), {}
        for index, label in enumerate(self.labels):
            answered, wanted = self.confusion[:, index].sum(), self.confusion[index].sum()
            table[label] = [int(right[index]), int(answered), int(wanted)]
        return {"labels": table}


class Classify(LabelTask):
    """Say which label a text has."""

    name = "classify"
    kinds = frozenset({Labelled.kind})
    head = Head.ONE_LABEL
    metrics = (
        Metric("accuracy", "higher", "accuracy", "%", "Accuracy: the share of right labels."),
        Metric("macro_f1", "higher", "macro F1", "%"),
        Metric("label_loss", "lower", "loss", "nats/text"),
    )
    unit = "nats a text"
    source = "labelled texts"
    one, several = "text", "texts"
    rule = "A text is an `example` record with one of the federation's labels"
    hidden = "one text with its label"
    least = 2

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    def labels_of(self, records: Sequence[Record]) -> set[str]:
        """Every label with any probability."""
        found = (r for r in records if isinstance(r, Labelled))
        return {label for record in found for label, _ in _probabilities(record)}

    def examples(self, records: Sequence[Record]) -> list[Text]:
        """A text a record, in time order; with another label than the task's it is none."""
        known = set(self.labels)
        labelled = (
            Text(record.text.strip(), _probabilities(record), record.at, record.split)
            for record in records
            if isinstance(record, Labelled)
        )
        found = (t for t in labelled if t.text and known.issuperset(dict(t.probabilities)))
        return sorted(found, key=lambda text: (text.at is None, text.at or ""))

    def encode(self, example: Text, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """The text's first tokens, between those that the model frames a text with."""
        ids = framed(text_ids(example.text, tokenizer), tokenizer, MAX_TOKENS)
        chances = dict(example.probabilities)
        return Encoded(tuple(ids), tuple(chances.get(label, 0.0) for label in self.labels))

    def positions(self, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One for each text."""
        import torch

        rows = torch.arange(len(labels), device=labels.device)
        return rows, torch.zeros_like(rows), labels

    def losses(self, outputs: Tensor, wanted: Tensor) -> Tensor:
        """Kullback-Leibler divergence from what is wanted to what is answered."""
        from torch.nn import functional

        chances = outputs.log_softmax(-1)
        return functional.kl_div(chances, wanted, reduction="none").sum(-1)

    def score(self, loss: float, outputs: Tensor, rows: Tensor, wanted: Tensor) -> LabelScore:
        """A text's likeliest label is its answer."""
        size = len(self.labels)
        confusion = np.zeros((size, size), dtype=np.int64)
        cells = wanted.argmax(-1).tolist(), outputs.argmax(-1).tolist()
        np.add.at(confusion, cells, 1)
        tempered = [float(self.losses(outputs / t, wanted).sum()) for t in TEMPERATURES]
        return LabelScore(self.labels, loss, len(rows), confusion, np.array(tempered))

    def nothing(self) -> LabelScore:
        """No text."""
        size = len(self.labels)
        none = np.zeros((size, size), dtype=np.int64)
        return LabelScore(self.labels, 0.0, 0, none, np.zeros(len(TEMPERATURES)))

    def asked(self, text: str) -> Text:
        """See `LabelTask`."""
        return Text(text.strip(), ())

    def told(self, example: Text, outputs: Tensor, score: LabelScore) -> str:  # noqa: ARG002
        """The label and how likely it is; `unsure` where that is below a half.

        As sure as held-out texts have shown these adapters to be right, if there were enough.
        """
        temperature = score.temperature if score.count >= CALIBRATED_BY else 1.0
        label, likely = self.answer(outputs[0], temperature)
        return f"{label} ({100 * likely:.0f} %)"

    def answer(self, outputs: Tensor, temperature: float) -> tuple[str, float]:
        """The label of one text, [classes], or `UNSURE`; and how likely the likeliest is."""
        chances = (outputs / temperature).softmax(-1)
        best = int(chances.argmax())
        likely = float(chances[best])
        return (self.labels[best] if likely >= SURE else UNSURE), likely

    def made_up(self, chance: random.Random, words: Sequence[str]) -> Text:
        """Three words and any label."""
        text = " ".join(chance.choices(words, k=3))
        return Text(text, ((chance.choice(self.labels), 1.0),))

    def archive(self, chance: random.Random, words: Sequence[str], count: int) -> list[Record]:
        """Texts, empty ones too, with known and unknown labels and with probabilities."""
        return [self._made_up_record(chance, words) for _ in range(count)]

    def _made_up_record(self, chance: random.Random, words: Sequence[str]) -> Record:
        text = " ".join(chance.choices(words, k=chance.choice((0, 2, 3))))
        first, second = chance.sample((*self.labels, "another"), k=2)
        if chance.random() < 0.5:
            return Labelled(text=text, label=first)
        return Labelled(text=text, probabilities={first: 0.75, second: 0.25})


def _probabilities(record: Labelled) -> tuple[tuple[str, float], ...]:
    """Labels with a probability above 0, in their own order, summing to 1."""
    if record.label is not None:
        return ((record.label, 1.0),)
    given = {label: float(p) for label, p in (record.probabilities or {}).items() if p > 0}
    total = sum(given.values())
    return tuple((label, given[label] / total) for label in sorted(given))
