"""Against Privity: what travels beside the masked vector, and what is lost in it unsaid.

No message has a place for an example count or a metric; weights are 1. The quantiser returns how
many coordinates it clipped, and the device keeps that count for its owner.
"""

from __future__ import annotations

import numpy as np

from common.secagg import quantize
from simulations.evidence.attacks.measure import AttackOutcome, Update, likeness, synthetic_update
from simulations.evidence.attacks.on_privity.attacker import HEADER_BYTES
from simulations.evidence.attacks.on_privity.round import (
    CLIP,
    LEGS,
    MASK,
    MEMBERS,
    TERMS,
    VICTIM,
    PrivityRound,
    Random,
)

FEW, MANY = 3, 3000
VECTOR_AT = HEADER_BYTES + 8


def figures_in_clear() -> AttackOutcome:
    """Compare all that the victim sends when it has 3 examples and when it has 3000.

    Both rounds use the same randomness, so whatever differs comes from the count.
    """
    few, many = (_sent_with(count) for count in (FEW, MANY))
    sizes = sum(len(a) != len(b) for a, b in zip(few, many, strict=True))
    few[MASK], many[MASK] = few[MASK][:VECTOR_AT], many[MASK][:VECTOR_AT]
    differing = sum(_differing(a, b) for a, b in zip(few, many, strict=True))
    text = (
        f"{differing} of {sum(map(len, few))} bytes outside the masked vector and {sizes} of "
        f"{LEGS} message sizes depend on the example count"
    )
    measured: dict[str, float] = {"bytes_that_depend": differing, "sizes_that_depend": sizes}
    return AttackOutcome(bool(differing or sizes), text, measured)


def silent_clipping() -> AttackOutcome:
    """One member's values lie beyond the clipping range in a tenth of the coordinates."""
    far = synthetic_update(VICTIM)
    far[::10] = np.copysign(4 * CLIP, far[::10])
    outside = int(np.count_nonzero(np.abs(far) > CLIP))
    _, counted = quantize(far, CLIP, TERMS.levels)
    run = PrivityRound(update=lambda m: far if m == VICTIM else synthetic_update(m))
    true = far + sum(synthetic_update(m) for m in MEMBERS if m != VICTIM)
    error = likeness(true, run.total())["relative_error"]
    text = f"{outside} values clipped, mean off by {error:.0%}, {counted} counted on the device"
    measured = {"clipped_coordinates": outside, "mean_relative_error": error, "counted": counted}
    return AttackOutcome(counted != outside, text, measured)


def _differing(one: bytes, other: bytes) -> int:
    shorter = min(len(one), len(other))
    return sum(one[at] != other[at] for at in range(shorter))


def _sent_with(examples: int) -> list[bytes]:
    run = PrivityRound(random=_repeatable, update=lambda m: _mean(m, examples)).until(LEGS)
    return [messages[VICTIM] for messages in run.sent]


def _mean(member: int, examples: int) -> Update:
    """A synthetic mean over so many examples: the more, the smaller."""
    shrunk: Update = synthetic_update(member) / np.float32(examples**0.5)
    return shrunk


def _repeatable(member: int) -> Random:
    return np.random.default_rng(member).bytes
