"""What tasks have in common that are learnt as text: the next token, by cross-entropy."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.tasks.counts import Counts
from common.tasks.task import NOTHING, Head, Metric, Task

if TYPE_CHECKING:
    from torch import Tensor

MOST_NLL = math.log(sys.float_info.max)  # beyond it a perplexity is infinite


@dataclass(frozen=True, slots=True)
class LanguageScore:
    """Figures over held-out tokens: the sum of their NLL in nats, how many, how many right."""

    loss: float = 0.0
    correct: int = 0
    count: int = 0

    def __add__(self, other: LanguageScore) -> LanguageScore:
        return LanguageScore(
            self.loss + other.loss, self.correct + other.correct, self.count + other.count
        )

    def metrics(self) -> dict[str, float]:
        """Perplexity exp(mean NLL), mean NLL in nats a token, next-token accuracy."""
        nll = self.loss / self.count
        return {
            "perplexity": math.inf if nll > MOST_NLL else math.exp(nll),
            "nll": nll,
            "next_token_accuracy": self.correct / self.count,
        }

    def counts(self) -> Counts:
        """None: a vocabulary is no table."""
        return {}


class LanguageTask(Task):
    """A task whose examples are texts, of which some tokens are learnt."""

    head = Head.LANGUAGE_MODEL
    metrics = (
        Metric(
            "perplexity",
            "lower",
            "perplexity",
            meaning="Perplexity: between how many next tokens the model is, in effect, undecided.",
        ),
        Metric("nll", "lower", "loss", "nats/token"),
        Metric("next_token_accuracy", "higher", "next token accuracy", "%"),
    )
    unit = "nats a token"

    def positions(self, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A token is predicted where the one before it is read; the first of all never is."""
        import torch

        targets = labels[:, 1:]
        rows, columns = torch.nonzero(targets != NOTHING, as_tuple=True)
        return rows, columns, targets[rows, columns]

    def losses(self, outputs: Tensor, wanted: Tensor) -> Tensor:
        """Cross-entropy."""
        from torch.nn import functional

        return functional.cross_entropy(outputs, wanted, reduction="none")

    def score(self, loss: float, outputs: Tensor, rows: Tensor, wanted: Tensor) -> LanguageScore:
        """How many of the tokens are the likeliest ones."""
        right = int((outputs.argmax(dim=-1) == wanted).sum())
        return LanguageScore(loss, right, len(rows))

    def nothing(self) -> LanguageScore:
        """No token."""
        return LanguageScore()
