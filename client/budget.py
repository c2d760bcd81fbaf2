"""How much noise a device puts on its next release, from its ledger and the plan of the run."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from common.config import Settings
from common.privacy.accountant import Release, calibrate, epsilon

UNPLANNED_ROUNDS_CHANCE = 0.05  # that a sampled device is asked more often than it planned for


def planned_rounds(settings: Settings) -> int:
    """Rounds a device plans to take part in: all, or the 95 % quantile under Poisson sampling."""
    rate = settings.cohort_rate
    if rate >= 1.0:
        return settings.rounds
    from scipy.stats import binom

    quantile = binom.ppf(1 - UNPLANNED_ROUNDS_CHANCE, settings.rounds, rate)
    return max(1, ceil(float(quantile)))


def next_release(past: Sequence[Release], settings: Settings) -> Release:
    """The noisy steps of the next round, such that the whole plan stays within the budget.

    The σ of the last round is kept while it still fits. A repeated round (a resumed run, an
    abandoned round) is one more release, paid for by more noise in those that follow.

    Raises:
        BudgetExceededError: When the budget is spent.
    """
    rounds_left = max(1, planned_rounds(settings) - len(past))
    steps, rate = settings.local_steps, settings.sample_rate
    if past:
        kept = Release(past[-1].noise_multiplier, rate, steps * rounds_left)
        if epsilon([*past, kept], settings.delta) <= settings.epsilon:
            return Release(kept.noise_multiplier, rate, steps)
    sigma = calibrate(
        past,
        steps=steps * rounds_left,
        sample_rate=rate,
        target=settings.epsilon,
        delta=settings.delta,
    )
    return Release(sigma, rate, steps)
