"""How the product chooses a release's examples: all that the audit's check of it depends on."""

from __future__ import annotations

from collections.abc import Sequence

from common.tasks.sets import divide, window, within
from common.tasks.task import Example


def chosen(
    examples: Sequence[Example], key: bytes, limit: int, count: float
) -> tuple[list[Example], list[Example]]:
    """Training and held-out examples of a release, given the noisy number of examples."""
    train, heldout = divide(examples, key)
    share = window(limit, count)
    return within(train, key, share), within(heldout, key, share)
