"""Made-up people whose every example is new: random words, so that only training tells."""

from __future__ import annotations

import random
from string import ascii_lowercase

from common.settings import TaskSettings
from common.tasks import task_of
from common.tasks.task import Example
from simulations.evidence.audit.system import stream

WORDS, LETTERS = 60, 4


def talk(seed: int, purpose: str) -> random.Random:
    """Repeatable choices of words."""
    return random.Random(stream(seed, purpose)(32))  # noqa: S311


def examples_of(chance: random.Random, count: int, task: TaskSettings) -> list[Example]:
    """Independent examples of one made-up person."""
    learnt, words = task_of(task), vocabulary()
    return [learnt.made_up(chance, words) for _ in range(count)]


def vocabulary() -> list[str]:
    """The words that everybody uses, the same in every audit."""
    chance = random.Random(WORDS)  # noqa: S311
    return ["".join(chance.choices(ascii_lowercase, k=LETTERS)) for _ in range(WORDS)]
