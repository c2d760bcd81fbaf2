"""What an attack's score proves about ε: lower bounds that hold with a stated confidence.

One run: m canaries, each included by its own fair coin; of r guesses v are right. Under (ε, δ)-DP
so many right guesses have a small probability (Steinke, Nasr, Jagielski 2023, theorem 5.2 and
appendix D, https://arxiv.org/abs/2305.08846). Two worlds: the same run many times with and without
one record; the rates of false alarms and misses bound ε (Kairouz, Oh, Viswanath 2015, theorem 2.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95  # of a lower bound on ε, for any mechanism; Gaussian noise stays far below
VERDICT = 0.999  # of other intervals that refute a claim
EPSILON_LIMIT = 64.0  # beyond what any number of guesses here could prove
PRECISION = 1e-4


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """The most probable that `right` or more right guesses can be under (ε, δ)-DP.

    Args:
        canaries: m, all canaries, guessed or not.
        guesses: r, chosen before the scores were seen; the rest are abstentions.
        right: v.
        epsilon: ε of the hypothesis.
        delta: δ of the hypothesis.
    """
    from scipy.stats import binom

    assert 0 <= right <= guesses <= canaries
    accuracy = 1 / (1 + math.exp(-epsilon))  # of randomised response with this ε
    beta = float(binom.sf(right - 1, guesses, accuracy))  # P[W ≥ v]
    if delta == 0 or right == 0:
        return min(1.0, beta)
    below = binom.pmf(np.arange(right - 1, -1, -1), guesses, accuracy).cumsum()  # P[v > W ≥ v − i]
    alpha = float((below / np.arange(1, right + 1)).max())
    return min(1.0, beta + 2 * canaries * delta * alpha)


def one_run_epsilon(
    canaries: int, guesses: int, right: int, delta: float, confidence: float = CONFIDENCE
) -> float:
    """The largest ε that so many right guesses refute; 0 when they refute none."""
    return _largest(
        lambda epsilon: p_value(canaries, guesses, right, epsilon, delta) < 1 - confidence
    )


def several_counts_epsilon(
    canaries: int,
    outcomes: Sequence[tuple[int, int]],
    delta: float,
    confidence: float = CONFIDENCE,
) -> float:
    """The best bound of several numbers of guesses fixed beforehand, Bonferroni-corrected.

    Args:
        outcomes: For each number of guesses, it and how many were right.
    """
    each = 1 - (1 - confidence) / len(outcomes)
    return max(one_run_epsilon(canaries, r, v, delta, each) for r, v in outcomes)


def _largest(refuted: Callable[[float], bool]) -> float:
    low, high = 0.0, EPSILON_LIMIT
    if not refuted(low):
        return 0.0
    while high - low > PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def count_right(scores: NDArray[np.float64], included: NDArray[np.bool_], guesses: int) -> int:
    """Right guesses when the highest scores are guessed in and the lowest out, half each.

    Args:
        scores: Higher means more likely included: [canaries].
        included: What the coins said: [canaries].
        guesses: r, even.
    """
    order = np.argsort(scores, kind="stable")
    half = guesses // 2
    return int((~included[order[:half]]).sum() + included[order[len(order) - half :]].sum())


def interval(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact two-sided interval of a rate (Clopper, Pearson 1934)."""
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, successes, trials - successes + 1)) if successes else 0.0
    high = float(beta.isf(tail, successes + 1, trials - successes)) if successes < trials else 1.0
    return low, high


def two_worlds_epsilon(
    false_alarms: int, misses: int, trials: int, delta: float, confidence: float = CONFIDENCE
) -> float:
    """The ε refuted by a threshold test between two worlds, `trials` runs of each.

    (ε, δ)-DP bounds both rates: 1 − δ ≤ FPR + e^ε FNR, and the same with the rates exchanged.
    Each rate is taken at the upper end of its own one-sided interval, half the risk to each.
    """
    worst = [interval(count, trials, confidence)[1] for count in (false_alarms, misses)]
    ratios = [(1 - delta - one) / other for one, other in (worst, worst[::-1])]
    return max([0.0, *(math.log(ratio) for ratio in ratios if ratio > 0)])
