"""What an attack is measured by: how far the attacker's guess is from the victim's update.

All vectors are synthetic: independent normal coordinates. A guess of zeros has relative error 1,
so an attacker with an error of 1 or more knows nothing of the update's size; the cosine says the
same of its direction, whatever scale the attacker would choose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from common.errors import ProtocolError

Update: TypeAlias = NDArray[np.float32]
Guess: TypeAlias = NDArray[np.floating[Any]]
T = TypeVar("T")

DIMENSION = 1024
SPREAD = 0.1  # standard deviation of a coordinate
KNOWS_NOTHING = 1.0
# An independent guess whose coordinates are uniform on [-M, M) has norm about M sqrt(d/3), so by
# Hoeffding its cosine exceeds x with probability at most 2 exp(-x² d / 6): 3e-12 at 0.4.
CHANCE_COSINE = 0.4


@dataclass(frozen=True, slots=True)
class AttackOutcome:
    """What came of one attack on one system.

    Attributes:
        succeeded: The attacker got what it wanted.
        text: The outcome in words.
        measured: Figures, each with its unit in its name.
    """

    succeeded: bool
    text: str
    measured: dict[str, float] = field(default_factory=dict)


def synthetic_update(member: int) -> Update:
    """A member's synthetic update: [DIMENSION]."""
    draws = np.random.default_rng(member).normal(0.0, SPREAD, DIMENSION)
    return draws.astype(np.float32)


def likeness(truth: Guess, guess: Guess) -> dict[str, float]:
    """Relative error and cosine of a guess."""
    wide, other = truth.astype(np.float64), guess.astype(np.float64)
    size = float(np.linalg.norm(wide))
    return {
        "relative_error": float(np.linalg.norm(other - wide)) / size,
        "cosine": float(other @ wide) / max(float(np.linalg.norm(other)) * size, 1e-300),
    }


def reconstruction(truth: Guess, guess: Guess, how: str) -> AttackOutcome:
    """The outcome of an attack that ended with a guess; better than zeros is a success."""
    measured = likeness(truth, guess)
    error, cosine = measured["relative_error"], abs(measured["cosine"])
    succeeded = error < KNOWS_NOTHING or cosine > CHANCE_COSINE
    verdict = "update read" if succeeded else "noise"
    return AttackOutcome(succeeded, f"{verdict}: {how}; relative error {error:.2g}", measured)


def closest(truth: Guess, guesses: Sequence[Guess], how: str) -> AttackOutcome:
    """The outcome of several guesses: that of the best."""
    outcomes = [reconstruction(truth, guess, how) for guess in guesses]
    return min(outcomes, key=lambda outcome: outcome.measured["relative_error"])


class RefusalsSeen:
    """What members refused of what they were asked.

    Args:
        kinds: Exceptions that count as a refusal; any other is an error of the attack's own.
    """

    def __init__(self, kinds: type[Exception] = ProtocolError) -> None:
        self.asked = self.refused = 0
        self.names: set[str] = set()
        self._kinds = kinds

    def ask(self, attempt: Callable[..., T], *arguments: object) -> T | None:
        """The answer to a call, or None if it was refused."""
        self.asked += 1
        try:
            return attempt(*arguments)
        except self._kinds as error:
            self.refused += 1
            self.names.add(type(error).__name__)
            return None

    @property
    def accepted(self) -> int:
        """Requests that were served."""
        return self.asked - self.refused

    def __str__(self) -> str:
        names = f" ({', '.join(sorted(self.names))})" if self.names else ""
        return f"{self.refused} of {self.asked} requests refused{names}"
