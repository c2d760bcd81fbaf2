"""What a task is: all that the rest of the system does not know about what is learnt.

A task turns a person's records into examples, an example into what a model reads and what it should
answer, and a model's answers into a loss and into figures. How examples are divided
(`sets.py`), how a model learns from them, what is sent and what it costs is the same for all tasks.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from common.errors import InputError
from common.records.records import Record
from common.tasks.counts import Counts

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

NOTHING = -1  # a label where there is nothing to predict


class Example(Protocol):
    """One thing to learn from: what the record-level ε is about. Hashable; its repr is redacted."""

    @property
    def content(self) -> tuple[Any, ...]:
        """All that is learnt from, as JSON values. Examples with equal contents go together."""

    @property
    def at(self) -> str | None:
        """When it was recorded, in one form that sorts as text."""

    @property
    def split(self) -> str | None:
        """`train` or `heldout` where a record says so."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as a model reads it, and what it should answer.

    Attributes:
        ids: Tokens, [length].
        labels: For each token the class it should get, [length], `NOTHING` where there is none; or,
            where one label is given, the probability of each class, [classes].
    """

    ids: tuple[int, ...] = field(repr=False)
    labels: tuple[int, ...] | tuple[float, ...] = field(repr=False)


class Head(Enum):
    """What of a model answers.

    The language model's own is frozen. The others are learnt: their weights are part of both
    adapters (`common/adapter/plan.HeadSite`), shared and personal, as `sharing` has it.
    """

    LANGUAGE_MODEL = "the next token of each"
    ONE_LABEL = "one label for the whole text"
    LABEL_A_TOKEN = "a label for each token"  # noqa: S105


class Score(Protocol):
    """Additive figures over held-out examples."""

    @property
    def loss(self) -> float:
        """Summed over what was predicted, in nats."""

    @property
    def count(self) -> int:
        """How many predictions that were."""

    def __add__(self, other: Self) -> Self: ...

    def metrics(self) -> dict[str, float]:
        """Every metric of the task, by name."""

    def counts(self) -> Counts:
        """What was found of each kind, for tables; empty where the task has none."""


def mean_loss(score: Score) -> float:
    """The loss in nats, averaged over all predictions of the examples."""
    return score.loss / score.count


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that people compare.

    Attributes:
        name: As in `report.json`.
        better: `lower` or `higher`.
        label: As a person reads it.
        unit: Behind the number; `%` for a share between 0 and 1.
        meaning: One sentence for whoever sees it for the first time.
    """

    name: str
    better: str
    label: str
    unit: str = ""
    meaning: str = ""


class Task(ABC):
    """One task; stateless. A new one is one file here and one line in `common/tasks/__init__.py`.

    Attributes:
        name: On the command line and in `report.json`.
        kinds: Kinds of records that it reads.
        head: What of a model answers.
        metrics: The primary one first.
        unit: Of one example's loss, in words.
        source: What a person calls its records.
        one, several: What a person calls an example, and several.
        rule: One sentence that says what makes an example.
        hidden: What one example is where it is said what ε is about; empty: no more than that.
        overlapping: Whether one record can be part of two examples, and so costs more than one.
        labels: What the learnt head tells apart; of each task that has one, `among` gives a copy.
    """

    name: ClassVar[str]
    kinds: ClassVar[frozenset[str]]
    head: ClassVar[Head]
    metrics: ClassVar[tuple[Metric, ...]]
    unit: ClassVar[str]
    source: ClassVar[str]
    one: ClassVar[str]
    several: ClassVar[str]
    rule: ClassVar[str]
    hidden: ClassVar[str] = ""
    overlapping: ClassVar[bool] = False
    labels: tuple[str, ...] = ()

    @property
    def speaks(self) -> bool:
        """Whether it answers in words, as an assistant does."""
        return self.head is Head.LANGUAGE_MODEL

    @property
    def classes(self) -> tuple[str, ...]:
        """What the learnt head has a row for; none without one."""
        return ()

    def among(self, labels: tuple[str, ...]) -> Task:
        """This task for these labels, which all who learn it together mean alike.

        Raises:
            InputError: It has no labels, or cannot work with these.
        """
        if labels:
            problem = f"--labels changes nothing with --task {self.name}."
            raise InputError(problem, "Leave one of them out.")
        return self

    def labels_of(self, records: Sequence[Record]) -> set[str]:  # noqa: ARG002
        """The labels that these records use."""
        return set()

    def require_labels(self) -> None:  # noqa: B027
        """Refuse to work without labels that it needs.

        Raises:
            InputError: It has none.
        """

    @property
    def primary(self) -> Metric:
        """The metric that decides."""
        return self.metrics[0]

    @abstractmethod
    def examples(self, records: Sequence[Record]) -> Sequence[Example]:
        """All examples in these records, in time order; records of other kinds count for nothing.

        One record more or less is at most two edits of the examples, one that goes and one that
        comes: so much is stated of what a record costs.
        """

    @abstractmethod
    def encode(self, example: Any, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """The example for a model with this tokenizer, cut to a length that bounds the work."""

    @abstractmethod
    def positions(self, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where a batch's predictions are read, and what they should be.

        Args:
            labels: Of each example as `Encoded` has them; `NOTHING` in the padding.

        Returns:
            Rows and columns, each [predictions], and what is wanted, [predictions] or, as
            probabilities, [predictions, classes].
        """

    @abstractmethod
    def losses(self, outputs: Tensor, wanted: Tensor) -> Tensor:
        """The loss of each prediction, in nats: [predictions].

        Args:
            outputs: What the head gave there, float32, [predictions, classes].
        """

    @abstractmethod
    def score(self, loss: float, outputs: Tensor, rows: Tensor, wanted: Tensor) -> Score:
        """The figures of a batch.

        Args:
            loss: The sum of `losses`.
            rows: Which example of the batch each prediction belongs to, [predictions].
        """

    @abstractmethod
    def nothing(self) -> Score:
        """The figures of no example."""

    @abstractmethod
    def made_up(self, chance: random.Random, words: Sequence[str]) -> Example:
        """A short example of random words, for audits and benchmarks: each like any other."""

    @abstractmethod
    def archive(self, chance: random.Random, words: Sequence[str], count: int) -> list[Record]:
        """Make up `count` records in which everything happens that can happen in real ones."""

    def spoken(self, question: str, answer: str) -> Example:
        """The example in which this question is asked and this answer learnt.

        Raises:
            NotImplementedError: The head does not answer in words.
        """
        raise NotImplementedError
