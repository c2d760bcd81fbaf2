"""Record level: how far the choice of training and held-out answers moves with one record.

The statement is about one example of the training set. It covers an archive only if one example
more or less in the archive leaves everything else where it was; the two functions below are all
that this check knows of how the product chooses.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from common.records import Record
from common.tasks.chat import Turn, split, turns
from simulations.audit.evidence import Evidence
from simulations.audit.findings import Finding
from simulations.audit.people import talk, vocabulary
from simulations.audit.scale import Scale
from simulations.audit.system import System

CHECK = "record level, choice of examples"
ARCHIVES, LIMIT = 60, 12
EXAMPLE_EDITS = 1  # what one example more or less may change: itself
MESSAGE_EDITS = 4  # and one message: two answers go or come, and up to two in their place


def chosen(examples: Sequence[Turn], limit: int) -> tuple[Sequence[Turn], Sequence[Turn]]:
    """Training and held-out examples as a device chooses them."""
    return split(examples, limit)


def choice(system: System, _scale: Scale, seed: int) -> list[Finding]:
    """Archives with and without one example, and one message."""
    evidence, chance = Evidence(system.name), talk(seed, "sets")
    worst = {"example": 0, "message": 0}
    for number in range(ARCHIVES):
        archive = messages(chance, chance.choice((3, 8, 30, 90)), timed=bool(number % 2))
        found = turns(archive)
        if found:
            less = list(found)
            less.pop(chance.randrange(len(less)))
            worst["example"] = max(worst["example"], _edits(found, less))
        fewer = list(archive)
        fewer.pop(chance.randrange(len(fewer)))
        worst["message"] = max(worst["message"], _edits(found, turns(fewer)))
    evidence.at_most("answers moved by one example", worst["example"], EXAMPLE_EDITS)
    evidence.at_most("answers moved by one message", worst["message"], MESSAGE_EDITS)
    evidence.figures |= {f"moved_by_one_{name}": value for name, value in worst.items()}
    return [
        evidence.finding(
            CHECK,
            f"{ARCHIVES} archives with and without one example, one message; at most {LIMIT} "
            "examples",
            f"{EXAMPLE_EDITS} answer changes sets by one example, {MESSAGE_EDITS} by one message",
            "exact for the archives that are tried",
        )
    ]


def messages(chance: random.Random, count: int, *, timed: bool) -> list[Record]:
    """A made-up archive of two conversations."""
    words = vocabulary()
    return [
        Record(
            "message",
            {
                "text": " ".join(chance.choices(words, k=3)),
                "author": chance.choice(("me", "other", "other")),
                "conversation": chance.choice("ab"),
            },
            f"2026-01-01T{number // 60:02}:{number % 60:02}:00Z" if timed else None,
        )
        for number in range(count)
    ]


def _edits(one: Sequence[Turn], two: Sequence[Turn]) -> int:
    """Answers that come or go in either set."""
    total = 0
    for ours, theirs in zip(chosen(one, LIMIT), chosen(two, LIMIT), strict=True):
        ours_count, theirs_count = Counter(ours), Counter(theirs)
        total += (ours_count - theirs_count).total() + (theirs_count - ours_count).total()
    return total
