"""How many releases a budget must last for: the same answer on the server and on a device."""

from __future__ import annotations

from math import ceil

from common.settings import RoundSettings

UNPLANNED_ROUNDS_CHANCE = 0.05  # that a sampled device is asked more often than it planned for


def planned_rounds(rounds: RoundSettings, number: int) -> int:
    """Rounds a device still plans for when it takes part in round `number`, which is counted.

    All that are left, or the 95 % quantile of how often it will be drawn under Poisson sampling.
    """
    following = max(0, rounds.count - number)
    rate = rounds.cohort_rate
    if rate >= 1.0:
        return 1 + following
    from scipy.stats import binom

    return 1 + ceil(float(binom.ppf(1 - UNPLANNED_ROUNDS_CHANCE, following, rate)))
