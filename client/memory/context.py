"""BM25 of each turn in its context: its own words, and less and less of those said around it.

An answer often leaves out what the question named, so a word counts for the turns beside it too,
by a factor that falls with each turn in between. BM25 then reads as usual (Robertson and Zaragoza,
2009, equation 3.15) with these weighted counts; how rare a word is, its own turns say. FTS5's own
BM25 knows no neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Scores = NDArray[np.float64]

K1, B = 1.2, 0.4  # how soon repeating a word adds little; how much length counts
# Chosen on three of five conversations (docs/memory.md).
REACH = 6  # turns on each side
BESIDE, EARLIER, LATER = 0.6, 0.75, 0.65  # a word n turns earlier counts BESIDE · EARLIERⁿ


@dataclass(frozen=True, slots=True)
class Turns:
    """Items in the order they were said, conversation by conversation.

    Attributes:
        numbers: The items', [items].
        groups: Which conversation each is part of, [items].
        lengths: Characters, its own and those around it, weighted as words are, [items].
        rows: Where each item stands.
    """

    numbers: Numbers = field(repr=False)
    groups: Numbers = field(repr=False)
    lengths: Scores = field(repr=False)
    rows: Mapping[int, int] = field(repr=False)


def turns(
    numbers: Sequence[int], conversations: Sequence[str | None], lengths: Sequence[int]
) -> Turns:
    """Items as `Turns`; one that is part of no conversation stands alone."""
    import numpy as np

    names: dict[str, int] = {}
    groups = [
        -1 - row if name is None else names.setdefault(name, len(names))
        for row, name in enumerate(conversations)
    ]
    rows = {number: row for row, number in enumerate(numbers)}
    made = Turns(np.array(numbers, np.int64), np.array(groups, np.int64), np.zeros(0), rows)
    around = _in_context(made, np.arange(len(rows)), np.array(lengths, np.float64))
    return Turns(made.numbers, made.groups, around, rows)


def bm25(known: Turns, postings: Sequence[Mapping[int, int]]) -> tuple[Scores, NDArray[np.bool_]]:
    """Each item's score, and whether it or the turn right before it has one of the terms.

    Args:
        postings: For each term, how often it stands in each item that has it.
    """
    import numpy as np

    count = len(known.numbers)
    scores: Scores = np.zeros(count)
    matched = np.zeros(count, np.bool_)
    long = K1 * (1 - B + B * known.lengths / max(known.lengths.mean(), 1e-9))  # [items]
    for posting in postings:
        found = {known.rows[item]: often for item, often in posting.items() if item in known.rows}
        if not found:
            continue
        rows = np.fromiter(found.keys(), np.int64)
        often = _in_context(known, rows, np.fromiter(found.values(), np.float64))
        rarity = max(np.log((count - len(rows) + 0.5) / (len(rows) + 0.5)), 1e-6)  # as in FTS5
        scores += rarity * often * (K1 + 1) / (often + long)
        matched[rows] = True
        matched[_beside(known, rows, 1)[1]] = True
    return scores, matched


def _in_context(known: Turns, rows: Numbers, values: Scores) -> Scores:
    """What stands at these rows, spread over the turns around each, [items]."""
    import numpy as np

    count = len(known.groups)
    total: Scores = np.bincount(rows, values, count).astype(np.float64)
    for distance in range(1, REACH + 1):
        for step, fall in ((distance, EARLIER), (-distance, LATER)):
            kept, there = _beside(known, rows, step)
            total += BESIDE * fall**distance * np.bincount(there, values[kept], count)
    return total


def _beside(known: Turns, rows: Numbers, step: int) -> tuple[NDArray[np.bool_], Numbers]:
    """Which rows have a turn so many later in their conversation, and where those stand."""
    there = rows + step
    inside = (there >= 0) & (there < len(known.groups))
    inside[inside] = known.groups[there[inside]] == known.groups[rows[inside]]
    return inside, there[inside]
