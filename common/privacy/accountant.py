"""ε of everything a device has released, and the noise that keeps a plan within its budget.

Record level: one training example on one device, add-or-remove, under the Poisson-subsampled
Gaussian mechanism. Opacus' PRV accountant (Gopi et al. 2021) composes the events, or its Rényi
accountant (Mironov 2017), which is faster and states more. Its third one, `gdp`, is not offered: it
approximates (the stated ε may be too small) and knows one noise for all events.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from scipy.optimize import brentq

from common.errors import BudgetExceededError

PRV, RDP = "prv", "rdp"
SIGMA_RANGE = (0.2, 4096.0)
SIGMA_PRECISION = 1e-3  # relative; the noisier side is returned
RDP_SLACK = 0.6  # PRV never allowed less than this share of Rényi accounting's σ here


@dataclass(frozen=True, slots=True)
class Release:
    """Noisy steps of one round: the subsampled Gaussian (q, σ), composed `steps` times."""

    noise_multiplier: float
    sample_rate: float
    steps: int


def epsilon(events: Sequence[Release], delta: float, accountant: str = PRV) -> float:
    """ε at δ of all events together; 0 without events, infinite without noise."""
    if not events:
        return 0.0
    return _epsilon(_merged(events), delta, accountant)


def calibrate(
    past: Sequence[Release],
    *,
    steps: int,
    sample_rate: float,
    target: float,
    delta: float,
    accountant: str = PRV,
) -> float:
    """The least σ with which `steps` more steps, after `past`, stay within `target` ε.

    Raises:
        BudgetExceededError: When even the largest noise does not fit.
    """
    return _calibrate(_merged(past), steps, sample_rate, target, delta, accountant)


def _merged(events: Sequence[Release]) -> tuple[Release, ...]:
    """Equal mechanisms added up, in one order: composition knows none, and each costs time."""
    steps: dict[tuple[float, float], int] = {}
    for event in events:
        mechanism = (event.noise_multiplier, event.sample_rate)
        steps[mechanism] = steps.get(mechanism, 0) + event.steps
    return tuple(Release(*mechanism, total) for mechanism, total in sorted(steps.items()))


@lru_cache(maxsize=4096)
def _epsilon(events: tuple[Release, ...], delta: float, accountant: str) -> float:
    return _compose(accountant, events, delta)


def _compose(mechanism: str, events: tuple[Release, ...], delta: float) -> float:
    from opacus.accountants import create_accountant

    if any(event.noise_multiplier == 0 for event in events):
        return float("inf")
    accountant = create_accountant(mechanism=mechanism)
    accountant.history = [(e.noise_multiplier, e.sample_rate, e.steps) for e in events]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # RDP's order warning, from PRV's domain search
        return float(accountant.get_epsilon(delta=delta))


@lru_cache(maxsize=4096)
def _calibrate(
    past: tuple[Release, ...],
    steps: int,
    sample_rate: float,
    target: float,
    delta: float,
    accountant: str,
) -> float:
    def spent(sigma: float) -> float:
        return _epsilon(_merged([*past, Release(sigma, sample_rate, steps)]), delta, accountant)

    upper = _rdp_sigma(past, steps, sample_rate, target, delta)
    if accountant == RDP:
        return upper
    lower = upper * RDP_SLACK
    if spent(lower) <= target:
        return lower
    sigma = float(brentq(lambda x: spent(x) - target, lower, upper, rtol=SIGMA_PRECISION))
    while spent(sigma) > target:
        sigma *= 1 + SIGMA_PRECISION
    return sigma


def _rdp_sigma(
    past: tuple[Release, ...], steps: int, sample_rate: float, target: float, delta: float
) -> float:
    """A σ that is surely enough: Rényi accounting is fast and never below the truth."""
    low, high = SIGMA_RANGE

    def fits(sigma: float) -> bool:
        events = _merged([*past, Release(sigma, sample_rate, steps)])
        return _compose(RDP, events, delta) <= target

    if not fits(high):
        spent = _epsilon(past, delta, PRV) if past else 0.0
        problem = f"{steps} more steps do not fit into ε = {target:g}: {spent:.2f} is spent."
        raise BudgetExceededError(problem)
    while high > low * 1.01:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
