"""What tasks have in common whose head is learnt: the labels that all mean alike."""

from __future__ import annotations

from abc import abstractmethod
from copy import copy
from typing import TYPE_CHECKING, Any, Self

from common.errors import InputError
from common.tasks.task import Example, Task

if TYPE_CHECKING:
    from torch import Tensor


class LabelTask(Task):
    """A task with a learnt head. Without labels it says only which records it reads."""

    least: int  # labels to tell apart

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """What the head has a row for, in its order."""

    def among(self, labels: tuple[str, ...]) -> Self:
        """See `Task`."""
        if labels and len(labels) < self.least:
            problem = f"--task {self.name} with the one label {labels[0]!r} learns nothing."
            raise InputError(problem, "Name all labels in --labels, with | between them.")
        bound = copy(self)
        bound.labels = labels
        return bound

    @abstractmethod
    def asked(self, text: str) -> Example:
        """An example of a text whose labels are not known."""

    @abstractmethod
    def told(self, example: Any, outputs: Tensor, score: Any) -> str:
        """The answer for a person, in one line.

        Args:
            outputs: What the head gives, [predictions, classes].
            score: Of what was held out here, under the same adapters.
        """

    def require_labels(self) -> None:
        """See `Task`."""
        if not self.labels:
            raise InputError(
                f"--task {self.name} needs to know its labels.",
                "Name them in --labels, with | between them.",
            )
