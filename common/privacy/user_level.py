"""ε of a person's whole contribution: the distributed discrete Gaussian and its composition.

Every member adds a discrete Gaussian share to its integers, and the secure sum shows the server
nothing but the total (Kairouz, Liu and Steinke 2021, https://arxiv.org/abs/2102.06387). Neighbours:
one person's whole update against the zero vector. Each release satisfies ρ-zero-concentrated DP;
`dp-accounting` composes them. No amplification by the sampling of cohorts is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import fsum, inf, pi, sqrt

import numpy as np

from common.errors import BudgetExceededError, InputError

LEAST_NOISE = 0.5  # what the theorem asks of a share
RHO_RANGE = (1e-12, 1e6)
RHO_PRECISION = 1e-9  # relative; the more private side is returned
ORDERS = tuple(1 + 10 ** (x / 100) for x in range(-195, 501))  # Rényi, 1.011 to 100,001


def rho(levels: float, noise: float, members: int, dimension: int) -> float:
    """zCDP ρ of one noisy sum, for a person whose update has an L2 norm of at most `levels`.

    Proposition 14 of the paper, of which its theorem is a consequence: for every order α >= 1 the
    Rényi divergence is at most both α·Δ²/2 + τ·d and α·(Δ + τ·√d)²/2, where Δ = levels / (√m·s),
    s = noise, m = members, d = dimension and τ = 10 Σ_{k<m} exp(-2π²s²·k/(k+1)), which bounds how
    far a sum of m discrete Gaussians is from one. As α >= 1, ρ = min(Δ²/2 + τ·d, (Δ + τ·√d)²/2).
    More shares than `members` are independent of these, and change nothing.

    Args:
        noise: σ of one member's share, in levels.
        members: How many honest members' shares are surely in the sum.
        dimension: Number of coordinates.

    Returns:
        ρ; infinite without noise.

    Raises:
        InputError: A share's noise is below the 0.5 that the theorem needs, or no member is honest.
    """
    if noise == 0:
        return inf
    if not noise >= LEAST_NOISE or members < 1:
        problem = f"noise of {noise} levels from each of {members} members bounds nothing."
        raise InputError(problem, f"Use {LEAST_NOISE} or more, from at least one.")
    before = np.arange(1, members)
    tau = 10 * float(np.exp(-2 * (pi * noise) ** 2 * before / (before + 1)).sum())
    ratio = levels / (sqrt(members) * noise)
    return min(ratio**2 / 2 + tau * dimension, (ratio + tau * sqrt(dimension)) ** 2 / 2)


def user_epsilon(rhos: Sequence[float], delta: float) -> float:
    """ε at δ of all releases together; 0 without any, infinite after one without noise."""
    return _epsilon(fsum(rhos), delta)


@lru_cache(maxsize=4096)
def _epsilon(total: float, delta: float) -> float:
    """ε at δ of ρ-zCDP; under composition ρ adds up (Bun and Steinke 2016)."""
    if total in (0.0, inf):
        return total
    from dp_accounting.dp_event import ZCDpEvent
    from dp_accounting.rdp import RdpAccountant

    return float(RdpAccountant(ORDERS).compose(ZCDpEvent(total)).get_epsilon(delta))


def calibrate_user(past: Sequence[float], releases: int, target: float, delta: float) -> float:
    """The largest ρ for each of `releases` more, such that with `past` they stay within `target`.

    Raises:
        BudgetExceededError: When even the least ρ does not fit.
    """

    def fits(each: float) -> bool:
        return user_epsilon([*past, *[each] * releases], delta) <= target

    low, high = RHO_RANGE
    if not fits(low):
        spent = user_epsilon(past, delta)
        problem = f"{releases} more releases do not fit into the person's ε = {target:g}:"
        raise BudgetExceededError(f"{problem} {spent:.2f} is spent.")
    if fits(high):
        return high
    while high > low * (1 + RHO_PRECISION):
        middle = sqrt(low * high)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
