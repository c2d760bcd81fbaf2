"""The exact privacy of Gaussian mechanisms without sampling, composed.

Gaussians with sensitivities s_i and noise of standard deviation σ_i, each chosen in the knowledge
of the results before, are together exactly as private as one Gaussian with μ² = Σ (s_i / σ_i)²
(Dong, Roth and Su 2022, https://arxiv.org/abs/1905.02383, corollary 3.3), whose δ(ε) is

    δ = Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ)

(Balle and Wang 2018, https://arxiv.org/abs/1805.06530, theorem 8). Both terms are the normal
density φ at μ/2 − ε/μ, times Mills' ratio Φ/φ at the two places; so their difference is computed
from the ratio, which keeps its precision in the tails, where Φ is below the smallest number.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import exp, inf, log, pi, sqrt

from scipy.special import erfcx, log_ndtr

_HALVINGS = 200  # of an interval: more than doubles have digits


@lru_cache(maxsize=4096)
def gaussian_epsilon(mu: float, delta: float) -> float:
    """The least ε with δ(ε) <= `delta` for a Gaussian with that μ; rounding is to the safe side."""
    if mu == 0 or log_delta(0.0, mu) <= log(delta):
        return 0.0
    if mu == inf:
        return inf
    enough = mu * mu / 2 + mu * sqrt(-2 * log(delta))  # by the tail bound of the normal
    return _border(lambda epsilon: log_delta(epsilon, mu) <= log(delta), 0.0, enough)


@lru_cache(maxsize=4096)
def gaussian_mu(epsilon: float, delta: float) -> float:
    """The largest μ that is (ε, δ)-differentially private; rounding is to the safe side."""
    low, high = 0.0, 1.0
    while log_delta(epsilon, high) <= log(delta):
        low, high = high, 2 * high
    over = _border(lambda mu: log_delta(epsilon, mu) > log(delta), low, high)
    return over * (1 - 1e-15)


def log_delta(epsilon: float, mu: float) -> float:
    """log δ(ε) of a Gaussian with μ > 0; -inf where no double tells it from 0."""
    upper, lower = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
    if upper > 0:  # Mills' ratio would overflow, and nothing is small here
        difference = -exp(epsilon + float(log_ndtr(lower))) + exp(float(log_ndtr(upper)))
        return log(difference) if difference > 0 else -inf
    ratios = sqrt(pi / 2) * float(erfcx(-upper / sqrt(2)) - erfcx(-lower / sqrt(2)))
    return -upper * upper / 2 - log(2 * pi) / 2 + log(ratios) if ratios > 0 else -inf


def _border(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition begins to hold; it does at `high`, and at what is returned."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
