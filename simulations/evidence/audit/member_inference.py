"""Membership inference: was this example trained on?

The score is how much the adapter lowers the example's loss below the base model's, so that easy
examples do not pass for members (Watson et al. 2022, https://arxiv.org/abs/2111.08440). Reported
as AUC and as the true-positive rate at a low false-positive rate (Carlini et al. 2022,
https://arxiv.org/abs/2112.03570). Members and strangers come from one source, so (ε, δ)-DP bounds
both: TPR ≤ e^ε FPR + δ, and AUC ≤ e^ε / (1 + e^ε) + δ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from common.adapter.plan import Vector
from common.learning.backbone import Backbone, Prepared
from simulations.evidence.audit.bound import VERDICT, interval
from simulations.evidence.audit.findings import SHOWN, Finding, judged
from simulations.evidence.audit.scale import CLAIMED_EPSILON, DELTA

CHECK = "membership inference"
REACH = 3.2905  # standard errors: 99.9 %
LOWEST_RATE, LEAST_FALSE_ALARMS = 0.001, 10
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Separation:
    """How well a score tells members from strangers; intervals at 99.9 %."""

    auc: float
    auc_interval: tuple[float, float]
    rate: float
    hits: float
    hits_interval: tuple[float, float]
    strangers: int
    members: int


def separation(members: Scores, strangers: Scores) -> Separation:
    """AUC (DeLong et al. 1988 interval) and TPR at 0.1 % FPR, or at what the strangers allow."""
    auc, deviation = auc_of(members, strangers)
    reach = REACH * deviation
    rate = max(LOWEST_RATE, LEAST_FALSE_ALARMS / len(strangers))
    limit = np.sort(strangers)[-int(rate * len(strangers))]
    hits = int((members > limit).sum())
    return Separation(
        auc,
        (max(0.0, auc - reach), min(1.0, auc + reach)),
        rate,
        hits / len(members),
        interval(hits, len(members), VERDICT),
        len(strangers),
        len(members),
    )


def auc_of(members: Scores, strangers: Scores) -> tuple[float, float]:
    """The probability that a member scores above a stranger, and its standard error."""
    above = _shares_below(strangers, members)  # [members]
    below = 1 - _shares_below(members, strangers)  # [strangers]
    variance = above.var(ddof=1) / len(members) + below.var(ddof=1) / len(strangers)
    return float(above.mean()), float(variance**0.5)


def _shares_below(these: Scores, values: Scores) -> Scores:
    """The share of `these` below each value; ties count half."""
    order = np.sort(these)
    low = np.searchsorted(order, values, "left")
    high = np.searchsorted(order, values, "right")
    return np.asarray((low + high) / (2 * len(these)))


def mean_losses(backbone: Backbone, examples: list[Prepared], *adapters: Vector) -> Scores:
    """Each example's loss under the shared, or shared and personal adapter, in nats: [examples]."""
    order = sorted(range(len(examples)), key=lambda row: len(examples[row].labels))
    losses = [np.empty(0)]
    with torch.no_grad(), backbone.using(*adapters):
        for batch in backbone.batches([examples[row] for row in order]):  # keeps this order
            sums, predictions = backbone.losses(batch)
            losses.append((sums / predictions).double().numpy())
    found = np.empty(len(examples))
    found[order] = np.concatenate(losses)
    return found


def membership_finding(
    system: str, against: str, found: Separation, *, claim: bool, claimed: str = "nothing"
) -> Finding:
    """One line; without a claim it is shown for comparison only."""
    bounds = (
        math.exp(CLAIMED_EPSILON) / (1 + math.exp(CLAIMED_EPSILON)) + DELTA,
        math.exp(CLAIMED_EPSILON) * found.rate + DELTA,
    )
    refuted = found.auc_interval[0] > bounds[0] or found.hits_interval[0] > bounds[1]
    promised = f"AUC ≤ {bounds[0]:.3f}, TPR ≤ {bounds[1]:.2%} (ε = {CLAIMED_EPSILON:g})"
    return Finding(
        f"{CHECK}, {against}",
        system,
        f"{found.members} members, {found.strangers:,} strangers; guess by how far the adapter "
        "lowers the loss",
        f"AUC {found.auc:.3f} ({found.auc_interval[0]:.3f} to {found.auc_interval[1]:.3f}), TPR "
        f"{found.hits:.1%} at {found.rate:.1%} FPR ({found.hits_interval[0]:.1%} to "
        f"{found.hits_interval[1]:.1%}, {VERDICT:.1%})",
        promised if claim else claimed,
        judged(system, refuted=refuted) if claim else SHOWN,
        {
            "auc": round(found.auc, 4),
            "auc_low": round(found.auc_interval[0], 4),
            "auc_high": round(found.auc_interval[1], 4),
            "false_positive_rate": found.rate,
            "true_positive_rate": round(found.hits, 4),
            "true_positive_rate_low": round(found.hits_interval[0], 4),
            "true_positive_rate_high": round(found.hits_interval[1], 4),
            "strangers": found.strangers,
            "members": found.members,
        },
    )
