"""How much noise a device puts on its next release, from its ledger and the plan of the run."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from common.config import Settings
from common.privacy.accountant import Release, calibrate, epsilon

UNPLANNED_ROUNDS_CHANCE = 0.05  # that a sampled device is asked more often than it planned for


def planned_rounds(settings: Settings, number: int) -> int:
    """Rounds a device still plans for when it takes part in round `number`, which is counted.

    All that are left, or the 95 % quantile of how often it will be drawn under Poisson sampling.
    """
    following = max(0, settings.rounds - number)
    rate = settings.cohort_rate
    if rate >= 1.0:
        return 1 + following
    from scipy.stats import binom

    return 1 + ceil(float(binom.ppf(1 - UNPLANNED_ROUNDS_CHANCE, following, rate)))


def next_release(past: Sequence[Release], settings: Settings, number: int) -> Release:
    """The noisy steps of round `number`, such that the whole plan stays within the budget.

    The σ of the last release is kept while it still fits. A repeated round (a resumed run) is one
    more release, paid for by more noise in those that follow.

    Raises:
        BudgetExceededError: When the budget is spent.
    """
    steps, rate = settings.local_steps, settings.sample_rate
    planned = steps * planned_rounds(settings, number)
    if past:
        kept = Release(past[-1].noise_multiplier, rate, planned)
        if epsilon([*past, kept], settings.delta) <= settings.epsilon:
            return Release(kept.noise_multiplier, rate, steps)
    sigma = calibrate(
        past,
        steps=planned,
        sample_rate=rate,
        target=settings.epsilon,
        delta=settings.delta,
    )
    return Release(sigma, rate, steps)
