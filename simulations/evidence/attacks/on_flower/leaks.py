"""Against Flower: what travels beside the masked vector, and what is lost in it unsaid."""

from __future__ import annotations

import numpy as np

from simulations.evidence.attacks.measure import AttackOutcome, Update, likeness, synthetic_update
from simulations.evidence.attacks.on_flower.round import (
    CLIPPING_RANGE,
    EXAMPLES,
    MAX_WEIGHT,
    MEMBERS,
    FlowerMember,
)
from simulations.evidence.attacks.on_flower.workflow import run_workflow


def figures_in_clear() -> AttackOutcome:
    """Read each member's example count and loss from an ordinary round."""
    counts = {node: 10 * node for node in MEMBERS}
    losses = {node: {"loss": 1.0 / node} for node in MEMBERS}
    members = {n: FlowerMember(n, examples=counts[n], metrics=losses[n]) for n in MEMBERS}
    seen = run_workflow(members)
    read = sum(seen.examples.get(node) == counts[node] for node in MEMBERS)
    metrics = sum(seen.metrics.get(node) == losses[node] for node in MEMBERS)
    text = f"the server read {read} example counts and {metrics} losses of {len(MEMBERS)} members"
    return AttackOutcome(bool(read or metrics), text, {"counts_read": read, "losses_read": metrics})


def silent_clipping() -> AttackOutcome:
    """One member's values lie beyond the clipping range in a tenth of the coordinates."""
    far = _with_outliers(synthetic_update(1))
    weight = EXAMPLES / MAX_WEIGHT  # the mod clips what it has weighted
    outside = int(np.count_nonzero(np.abs(far) * weight > CLIPPING_RANGE))
    members = {node: FlowerMember(node) for node in MEMBERS}
    members[1] = FlowerMember(1, lambda _: far)
    seen = run_workflow(members)
    assert seen.mean is not None
    true = (far + sum(synthetic_update(node) for node in MEMBERS[1:])) / len(MEMBERS)
    error = likeness(true, seen.mean)["relative_error"]
    told = len(seen.warnings) + sum(map(len, seen.metrics.values()))
    text = f"{outside} values clipped, mean off by {error:.0%}, {told} warnings or counts"
    measured = {"clipped_coordinates": outside, "mean_relative_error": error, "reports": told}
    return AttackOutcome(outside > 0 and told == 0, text, measured)


def _with_outliers(update: Update) -> Update:
    far = update.copy()
    far[::10] = np.copysign(4 * CLIPPING_RANGE, far[::10])
    return far
