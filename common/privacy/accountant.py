"""ε of everything a device has released, and the noise that keeps a plan within its budget.

Record level: one example on one device, add-or-remove. Releases without sampling (q = 1) are
Gaussians, whose composition is exact (`gaussian.py`). Where some are Poisson-subsampled, Opacus'
PRV accountant (Gopi et al. 2021) composes them with one Gaussian that stands for all the others.
Its Fourier transform ends where double precision does; there, and wherever its bound is lower, the
Rényi accountant (Mironov 2017) speaks, which can also be chosen for everything. Opacus' third,
`gdp`, is not offered: it approximates (the stated ε may be too small) and knows one noise only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import exp, fsum, inf, log, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from common.errors import BudgetExceededError
from common.privacy.gaussian import gaussian_epsilon, gaussian_mu
from common.system.quiet import no_warnings

PRV, RDP = "prv", "rdp"
SIGMA_RANGE = (2.0**-10, 2.0**20)
ROUNDING = 1e-12  # relative; of sums of a few thousand doubles
SIGMA_PRECISION = 1e-3  # relative; the noisier side is returned
RDP_SLACK = 0.6  # PRV never allowed less than this share of Rényi accounting's σ here
PRV_LEAST_DELTA = 1e-11  # below, its δ is no more than the rounding of the Fourier transform
PRV_MOST_EPSILON = 64.0  # above, its grid takes minutes, for a bound that says nothing
MECHANISMS = 12  # different ones in one composition, each of which takes about 0.1 s
# Opacus' own, and larger ones for small ε: with orders up to 63, ε >= 0.19 at δ = 1e-5.
ORDERS = [1 + x / 10 for x in range(1, 100)] + [*range(12, 64), *(2**k for k in range(6, 15))]


@dataclass(frozen=True, slots=True)
class Release:
    """Noisy steps of one round: the subsampled Gaussian (q, σ), composed `steps` times."""

    noise_multiplier: float
    sample_rate: float
    steps: int


def epsilon(events: Sequence[Release], delta: float, accountant: str = PRV) -> float:
    """ε at δ of all events together; 0 without events, infinite without noise."""
    events = [event for event in events if event.steps]
    if not events:
        return 0.0
    if any(event.noise_multiplier == 0 for event in events):
        return inf
    return _epsilon(_merged(events), delta, accountant)


def epsilon_of_two(events: Sequence[Release], delta: float, accountant: str = PRV) -> float:
    """ε at δ where two examples may differ: what one message can be part of.

    Without sampling every sensitivity doubles, which is the same as half the noise. With sampling
    it follows from the ε of one example, (ε, δ') twice being (2ε, (1 + e^ε) δ') (Vadhan 2017,
    lemma 2.2): the best of several δ', infinite where none is small enough.
    """
    if all(event.sample_rate == 1 for event in events):
        halved = [replace(event, noise_multiplier=event.noise_multiplier / 2) for event in events]
        return epsilon(halved, delta, accountant)
    least = inf
    for decades in range(1, 13):
        one = epsilon(events, delta * 10.0**-decades, accountant)
        if one < 700 and (1 + exp(one)) * 10.0**-decades <= 1:
            least = min(least, 2 * one)
    return least


def calibrate(
    past: Sequence[Release],
    planned: Sequence[Release],
    *,
    target: float,
    delta: float,
    accountant: str = PRV,
) -> float:
    """The least σ with which what is planned stays, after `past`, within `target` ε.

    Args:
        planned: The releases, with their noise in units of σ.

    Raises:
        BudgetExceededError: When even the largest noise does not fit.
    """
    if any(event.noise_multiplier == 0 for event in past):
        raise _spent(inf, target)
    return _calibrate(_merged(past), _merged(planned), target, delta, accountant)


def _merged(events: Sequence[Release]) -> tuple[Release, ...]:
    """Fewer events that are together as private: order does not matter, and each costs time.

    Equal sampled mechanisms are added up; everything without sampling becomes one Gaussian.
    """
    steps: dict[tuple[float, float], int] = {}
    for event in events:
        if event.sample_rate < 1:
            mechanism = (event.noise_multiplier, event.sample_rate)
            steps[mechanism] = steps.get(mechanism, 0) + event.steps
    sampled = [Release(*mechanism, total) for mechanism, total in sorted(steps.items())]
    mu = sqrt(fsum(e.steps / e.noise_multiplier**2 for e in events if e.sample_rate == 1))
    return (*sampled, *([Release(1 / mu, 1.0, 1)] if mu else []))


def _scaled(events: Sequence[Release], sigma: float) -> list[Release]:
    return [replace(event, noise_multiplier=event.noise_multiplier * sigma) for event in events]


@lru_cache(maxsize=4096)
def _epsilon(events: tuple[Release, ...], delta: float, accountant: str) -> float:
    if accountant == PRV and events[0].sample_rate == 1:  # then it is the only one
        return gaussian_epsilon(1 / events[0].noise_multiplier, delta)
    fewer = _fewer(events)
    bound = _renyi(fewer, delta)
    within = delta >= PRV_LEAST_DELTA and bound <= PRV_MOST_EPSILON
    return min(bound, _prv(fewer, delta)) if accountant == PRV and within else bound


def _prv(events: Sequence[Release], delta: float) -> float:
    """By Opacus' PRV accountant; infinite where it cannot say."""
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(e.noise_multiplier, e.sample_rate, e.steps) for e in events]
    with no_warnings():  # of orders, in the search for its domain
        try:
            found = float(accountant.get_epsilon(delta=delta))
        except (ArithmeticError, RuntimeError, ValueError, MemoryError):
            return inf
    return found if found >= 0 else inf  # NaN too


def _renyi(events: Sequence[Release], delta: float) -> float:
    from opacus.accountants.analysis.rdp import get_privacy_spent

    spent = np.sum([e.steps * _renyi_of(e.noise_multiplier, e.sample_rate) for e in events], axis=0)
    with no_warnings():  # the best order is the largest or the smallest one
        return float(get_privacy_spent(orders=ORDERS, rdp=spent, delta=delta)[0])


@lru_cache(maxsize=4096)
def _renyi_of(sigma: float, rate: float) -> NDArray[np.float64]:
    """The Rényi divergence of one step, for each order."""
    from opacus.accountants.analysis.rdp import compute_rdp

    found = compute_rdp(q=rate, noise_multiplier=sigma, steps=1, orders=ORDERS)
    return np.asarray(found, dtype=np.float64)


def _fewer(events: Sequence[Release]) -> list[Release]:
    """At most `MECHANISMS`: neighbours in σ of one rate are taken for the least noisy of them.

    Less noise is never more private, so the ε is a bound.
    """
    if len(events) <= MECHANISMS:
        return list(events)
    rates = sorted({event.sample_rate for event in events})
    groups = max(1, MECHANISMS // len(rates))
    fewer = []
    for rate in rates:
        alike = sorted((e for e in events if e.sample_rate == rate), key=_noise)
        first, last = log(_noise(alike[0])), log(_noise(alike[-1]))
        width = (last - first) / groups or 1.0
        parts: dict[int, list[Release]] = {}
        for event in alike:
            part = min(groups - 1, int((log(_noise(event)) - first) / width))
            parts.setdefault(part, []).append(event)
        fewer += [replace(part[0], steps=sum(e.steps for e in part)) for part in parts.values()]
    return fewer


def _noise(event: Release) -> float:
    return event.noise_multiplier


@lru_cache(maxsize=4096)
def _calibrate(
    past: tuple[Release, ...],
    planned: tuple[Release, ...],
    target: float,
    delta: float,
    accountant: str,
) -> float:
    def spent(sigma: float) -> float:
        return epsilon([*past, *_scaled(planned, sigma)], delta, accountant)

    everything = (*past, *planned)
    if accountant == PRV and all(event.sample_rate == 1 for event in everything):
        return _exact_sigma(past, planned, target, delta)
    upper = _renyi_sigma(past, planned, target, delta)
    if accountant == RDP:
        return upper
    lower = upper * RDP_SLACK
    if spent(lower) <= target:
        return lower
    sigma = float(brentq(lambda x: spent(x) - target, lower, upper, rtol=SIGMA_PRECISION))
    while spent(sigma) > target:
        sigma *= 1 + SIGMA_PRECISION
    return sigma


def _exact_sigma(
    past: Sequence[Release], planned: Sequence[Release], target: float, delta: float
) -> float:
    """μ² of a Gaussian adds up: what is left of it is for the plan."""
    most = gaussian_mu(target, delta)
    left = most**2 - sum(event.noise_multiplier**-2 for event in past)
    asked = sum(event.noise_multiplier**-2 for event in planned)
    if left * SIGMA_RANGE[1] ** 2 < asked:
        raise _spent(epsilon(past, delta), target)
    sigma = sqrt(asked / left) * (1 + ROUNDING)
    while epsilon([*past, *_scaled(planned, sigma)], delta) > target:
        sigma *= 1 + ROUNDING
    return sigma


def _renyi_sigma(
    past: Sequence[Release], planned: Sequence[Release], target: float, delta: float
) -> float:
    """A σ that is surely enough: Rényi accounting is fast and never below the truth."""
    low, high = SIGMA_RANGE

    def fits(sigma: float) -> bool:
        return epsilon([*past, *_scaled(planned, sigma)], delta, RDP) <= target

    if not fits(high):
        raise _spent(_epsilon(tuple(past), delta, RDP) if past else 0.0, target)
    while high > low * (1 + SIGMA_PRECISION):
        middle = sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _spent(so_far: float, target: float) -> BudgetExceededError:
    return BudgetExceededError(f"no more fits into ε = {target:g}: {so_far:.2f} is spent.")
