"""Which of a person's examples are learnt from, which are held out, and which a release is about.

Each example's place is decided by a keyed hash of its own content, never by the others: so one
example more or less changes no set but by itself, which is what the record-level ε is about. Equal
examples go together. The key is the device's secret, so that nobody can write messages for a place.

How large a release's window is depends on how many examples there are. In a release that number is
noisy, and the noise is charged (`common/privacy/releases.py`); given the noisy number, again each
example's place depends on itself alone.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Iterable, Sequence

from common.tasks.task import Example

HELD_OUT_SHARE = 0.2
KEY_BYTES = 32


def divide(examples: Iterable[Example], key: bytes) -> tuple[list[Example], list[Example]]:
    """All examples to train on and all held out, in their order: marked ones as they are marked."""
    sides: tuple[list[Example], list[Example]] = [], []
    for example in examples:
        held_out = places(example, key)[0] < HELD_OUT_SHARE
        sides[example.split == "heldout" if example.split else held_out].append(example)
    return sides


def within(examples: Sequence[Example], key: bytes, share: float) -> list[Example]:
    """Those of a side that are in a window of this share of all."""
    return [example for example in examples if places(example, key)[1] < share]


def window(limit: int, count: float) -> float:
    """The share of `count` examples that leaves `limit` to train on, expected, at most 1.

    Args:
        count: Training and held-out examples together; a noisy count may be anything.
    """
    return min(1.0, limit / (1 - HELD_OUT_SHARE) / count) if count > 0 else 1.0


def chosen(
    examples: Iterable[Example], key: bytes, limit: int
) -> tuple[list[Example], list[Example]]:
    """Training and held-out examples for what never leaves the device: exactly so many, if any.

    The first `limit` and `expected_held_out(limit)` in the order in which windows grow, so that
    they are all but those that a release is about.
    """
    train, heldout = divide(examples, key)
    return first(train, key, limit), first(heldout, key, expected_held_out(limit))


def first(examples: Sequence[Example], key: bytes, most: int) -> list[Example]:
    """So many of a side at most: the first as windows grow, in their own order."""
    order = sorted(range(len(examples)), key=lambda index: places(examples[index], key)[1])
    return [examples[index] for index in sorted(order[:most])]


def expected_held_out(limit: int) -> int:
    """How many answers are held out beside `limit` training examples, rounded up."""
    return math.ceil(math.ceil(limit / (1 - HELD_OUT_SHARE)) * HELD_OUT_SHARE)


def places(example: Example, key: bytes) -> tuple[float, float]:
    """Two independent uniform numbers in [0, 1): which side it is on, and its place in windows."""
    content = json.dumps(example.content).encode()
    digest = hmac.digest(key, b"privity/sets/1/" + content, hashlib.sha256)
    return tuple(int.from_bytes(digest[i : i + 6], "big") / 2**48 for i in (0, 8))  # type: ignore[return-value]
