"""Search: how near an item is in meaning, plus how well its words match, plus when it was.

The first two are on scales of their own, so each is taken in standard deviations from its mean
over all items (z-scores), and these are added. Fusion by ranks found less (docs/memory.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from client.memory.context import Turns, bm25, turns
from client.memory.times import Span, named_span

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from client.memory.embedding import Vectors
    from client.memory.index import Index

    Scores = NDArray[np.float64]

MOST_WORDS = 64  # of a query that are looked up
FITS_COSINE = 0.3  # an item without a word of the query fits from here on
TIME_WEIGHT = 1.0  # standard deviations that an item within the named span gains
NEAR_DAYS = 3.0  # beside the span the gain falls by a factor e in as many days, or in its length
COMMON_ENGLISH = (
    "a about an and any are as at be been but by can could did do does for from had has have he her"
    " his how i if in is it its me my of on or our she so that the their them there they this to"
    " was we were what when where which who whom whose why will with would you your"
)
COMMON = frozenset(COMMON_ENGLISH.split())


@dataclass(frozen=True, slots=True)
class Found:
    """An item that fits, and how well; the larger the score, the better."""

    id: int
    score: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a search needs of the index, read once for many searches.

    Attributes:
        turns: All items, conversation by conversation.
        vectors: [items, width].
        at: Seconds since 1970; NaN where no time is known, [items].
        pinned: Whether it comes first, [items].
        off: Whether it is never found, [items].
    """

    turns: Turns = field(repr=False)
    vectors: Vectors = field(repr=False)
    at: Scores = field(repr=False)
    pinned: NDArray[np.bool_] = field(repr=False)
    off: NDArray[np.bool_] = field(repr=False)


def snapshot(index: Index, model: str) -> Snapshot | None:
    """The index as it is now; None where it is empty. Items without a vector are not in it."""
    import numpy as np

    vectors = index.vectors(model)
    rows = [row for row in index.rows(model) if row[0] in vectors]
    if not rows:
        return None
    numbers, conversations, times, lengths, pinned, off = zip(*rows, strict=True)
    return Snapshot(
        turns=turns(numbers, conversations, lengths),
        vectors=np.stack([vectors[number] for number in numbers]),
        at=np.array([_seconds(at) for at in times], np.float64),
        pinned=np.array(pinned, np.bool_),
        off=np.array(off, np.bool_),
    )


def search(
    index: Index, known: Snapshot, query: str, vector: Vectors, limit: int, now: datetime
) -> list[Found]:
    """The items that fit a query, best first, pinned ones before all others.

    An item fits when it has a word of the query that is not one of the commonest, itself or in the
    turn before it, or when it is near in meaning. Items that are off do not fit.

    Args:
        vector: The query's, [width].
        now: What "yesterday" is reckoned from.
    """
    import numpy as np

    cosine = (known.vectors @ vector).astype(np.float64)  # [items]
    postings = [index.postings(term) for term in index.terms(" ".join(words_of(query)))]
    lexical, matched = bm25(known.turns, postings)
    scores = _z(cosine) + _z(lexical)
    if span := named_span(query, now):
        scores += TIME_WEIGHT * nearness(known.at, span)
    fits = (matched | (cosine >= FITS_COSINE)) & ~known.off
    numbers = known.turns.numbers
    order = np.lexsort((numbers, -scores, ~known.pinned))
    chosen = order[fits[order]][:limit]
    return [Found(int(numbers[row]), float(scores[row])) for row in chosen]


def words_of(query: str) -> list[str]:
    """The words to look for: without the commonest, unless there are no others."""
    words = list(dict.fromkeys(re.findall(r"\w+", query.casefold())))
    return ([word for word in words if word not in COMMON] or words)[:MOST_WORDS]


def nearness(at: Scores, span: Span) -> Scores:
    """1 within the span, less the further away, 0 where no time is known, [items]."""
    import numpy as np

    first, last = (moment.timestamp() for moment in span)
    gap = np.maximum(first - at, 0) + np.maximum(at - last, 0)
    scale = max(last - first, NEAR_DAYS * 86_400)
    return np.nan_to_num(np.exp(-gap / scale), nan=0.0)


def _z(scores: Scores) -> Scores:
    """Standard deviations from the mean; 0 where all are the same."""
    spread = float(scores.std())
    return (scores - scores.mean()) / spread if spread > 0 else scores * 0.0


def _seconds(at: str | None) -> float:
    if at is None:
        return float("nan")
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        return float("nan")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
