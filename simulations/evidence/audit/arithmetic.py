"""The audit's own accounting, which shares no line with the product's.

Without sampling, Gaussian releases compose to one Gaussian: with sensitivity Δ and noise s each,
μ² = Σ (Δ/s)², and (ε, δ) follow in closed form (Balle and Wang 2018, theorem 8,
https://arxiv.org/abs/1805.06530). With sampling, privacy-loss distributions of `dp-accounting`
are composed. At user level zCDP is turned into (ε, δ) by the best Rényi order (Canonne, Kamath and
Steinke 2020, proposition 12, https://arxiv.org/abs/2004.00010).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

LARGEST = 1e4  # ε beyond which nobody asks


@dataclass(frozen=True, slots=True)
class Noisy:
    """Noisy releases: the noise in units of the sensitivity, the sampling rate, how many."""

    noise: float
    rate: float = 1.0
    times: int = 1


def epsilon_of(releases: Sequence[Noisy], delta: float) -> float:
    """ε at δ of all releases together; infinite where one has no noise."""
    if not releases:
        return 0.0
    if any(not one.noise > 0 for one in releases):
        return math.inf
    if all(one.rate == 1 for one in releases):
        return gaussian_epsilon(math.sqrt(sum(r.times / r.noise**2 for r in releases)), delta)
    return _sampled(releases, delta)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The least ε at δ of N(0, 1) against N(μ, 1)."""
    return _crossing(lambda epsilon: gaussian_delta(mu, epsilon) > delta)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The δ at ε of N(0, 1) against N(μ, 1): Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ)."""
    from scipy.special import log_ndtr

    if mu == 0:
        return 0.0
    near, far = log_ndtr(mu / 2 - epsilon / mu), log_ndtr(-mu / 2 - epsilon / mu) + epsilon
    return float(math.exp(near) - math.exp(far)) if far < near else 0.0


def zcdp_epsilon(rho: float, delta: float) -> float:
    """ε at δ of ρ-zCDP by its best order α: αρ + ln(1 − 1/α) − (ln δ + ln α) / (α − 1)."""
    from scipy.optimize import minimize_scalar

    if rho in (0.0, math.inf):
        return rho

    def at(logarithm: float) -> float:
        more = math.exp(logarithm)  # α − 1
        order = 1 + more
        return order * rho + math.log(more / order) - (math.log(delta) + math.log(order)) / more

    best = minimize_scalar(at, bounds=(-12.0, 16.0), method="bounded", options={"xatol": 1e-9})
    return max(0.0, float(best.fun))


def _sampled(releases: Iterable[Noisy], delta: float) -> float:
    from dp_accounting.dp_event import (
        ComposedDpEvent,
        GaussianDpEvent,
        PoissonSampledDpEvent,
        SelfComposedDpEvent,
    )
    from dp_accounting.pld import PLDAccountant

    events = [
        SelfComposedDpEvent(PoissonSampledDpEvent(r.rate, GaussianDpEvent(r.noise)), r.times)
        for r in releases
    ]
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    return float(accountant.compose(ComposedDpEvent(events)).get_epsilon(delta))


def _crossing(above: Callable[[float], bool]) -> float:
    low, high = 0.0, LARGEST
    if not above(low):
        return 0.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) else (low, middle)
    return high
