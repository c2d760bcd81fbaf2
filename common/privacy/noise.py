"""The randomness that privacy rests on: noise and Poisson batches, from cryptographic bytes.

Opacus' own come from torch's Mersenne Twister, whose state can be found from what it gave. Here
every number is made of a `Random`: the operating system's generator, or a seeded stream where a
simulation must be repeatable.

The Gaussian is a float and as good as double precision can make it. The discrete Gaussian follows
Canonne, Kamath and Steinke 2020 (https://arxiv.org/abs/2004.00010, algorithms 1 to 3) with integer
comparisons, and `discrete_gaussian` says how far it is from exact.
"""

from __future__ import annotations

from decimal import Decimal
from math import ceil, floor, isfinite

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.privacy.randomness import Random, words

SIGMA_RANGE = (0.5, 2.0**26)
_SUMMED = 4  # normals in each Gaussian
_BLOCK = 32 * 1024  # proposals at a time: they and their words stay in the processor's cache
_PROPOSALS = 3.1  # of algorithm 3 for each value kept, at worst: 1 / (0.63 · 0.51)
_RUN = 8  # failures of exp(-1) that one word decides
# ⌊2^64 e^-k⌋ for k = 1 … 8: a word is below the k-th with probability e^-k.
_POWERS = [int(2**64 * Decimal(-k).exp()) for k in range(1, _RUN + 1)]


def gaussian(size: int, std: float, random: Random) -> NDArray[np.float64]:
    """Independent N(0, std²) in double precision: [size]; zeros for `std` 0.

    Box and Muller's transform of 53-bit uniforms. Each value is half the sum of four normals from
    four different pairs, as in Opacus' `secure_mode`: the low bits of one float normal tell which
    values could not have been reached from a given gradient (Mironov 2012,
    https://doi.org/10.1145/2382196.2382264), while to go back through a sum of four is a search of
    2^159 steps by Opacus' count (Holohan and Braghin 2021, https://arxiv.org/abs/2107.10138,
    section 5.1). That blunts the attack and does not prove it away: the result is still a float,
    not an exact Gaussian. What leaves a device is rounded to the integers of the secure sum, so
    nobody sees its low bits either.

    Raises:
        InputError: `std` is negative or not finite.
    """
    if not (isfinite(std) and std >= 0):
        raise InputError(f"a standard deviation of {std} is no noise.", "Give 0 or more.")
    if std == 0:
        return np.zeros(size)
    pairs = ceil(size / 2)
    drawn = words(2 * _SUMMED * pairs, random) >> np.uint64(11)
    uniform = (drawn * 2.0**-53).reshape(2, _SUMMED, pairs)
    radius = np.sqrt(-2.0 * np.log1p(-uniform[0]))  # [four, pairs]; of 1 - u, which is never 0
    angle = 2 * np.pi * uniform[1]
    both = np.concatenate([(radius * np.cos(angle)).sum(0), (radius * np.sin(angle)).sum(0)])
    normal: NDArray[np.float64] = both[:size] * (std / _SUMMED**0.5)
    return normal


def poisson_batch(size: int, rate: float, random: Random) -> list[int]:
    """The indices below `size`, in order, each with probability `rate` and independently.

    An index is in when its 64-bit word is below ⌊rate · 2^64⌋: the probability is never more than
    `rate` and at most 2^-64 less.

    Raises:
        InputError: `rate` is not a probability.
    """
    if not 0 <= rate <= 1:
        raise InputError(f"a sampling rate of {rate} is no probability.", "Give 0 to 1.")
    if rate == 1:
        return list(range(size))
    chosen = words(size, random) < np.uint64(floor(rate * 2.0**64))
    return [int(index) for index in np.flatnonzero(chosen)]


def discrete_gaussian(size: int, sigma: float, random: Random) -> NDArray[np.int64]:
    """Independent draws y with probability ∝ exp(-y² / 2σ²) on the integers: [size].

    How far from exact: let w(y) be the probability that a proposal becomes y and is kept. Every
    choice compares 64 random bits with ⌊2^64 p⌋, where p = exp(-x) comes from double precision.
    While p >= 2^-64, the last choice's x has an error below 2^-44.8, thus p has that relative
    error; the exponential itself and all other choices add less than 2^-49. And ⌊ ⌋ takes less
    than 2^-64 from p. So w(y) is met up to a factor e^±2^-44, less at most 2^-64 times the
    probability of proposing y. As more than half of the proposals are kept, each value is within
    2^-63, in total variation, of one whose probabilities are the exact ones up to a factor
    e^±2^-43. For N values that is N · 2^-63 and e^±(N · 2^-43): 10^-12 and 10^-6 for ten million.

    Args:
        sigma: The parameter σ; the standard deviation is at most that (and all but equal from 1).

    Raises:
        InputError: `sigma` is not finite or not from 0.5 to 2^26.
    """
    low, high = SIGMA_RANGE
    if not (isfinite(sigma) and low <= sigma <= high):
        problem = f"a discrete Gaussian with σ = {sigma} cannot be drawn."
        raise InputError(problem, f"Use {low} to {high:.0f} levels.")
    drawn, done = np.empty(size, dtype=np.int64), 0
    while done < size:
        proposed = min(_BLOCK, ceil(_PROPOSALS * (size - done)) + 16)
        kept = _gaussian_proposals(proposed, sigma, random)[: size - done]
        drawn[done : done + len(kept)] = kept
        done += len(kept)
    return drawn


def _gaussian_proposals(count: int, sigma: float, random: Random) -> NDArray[np.int64]:
    """Algorithm 3, `count` times: a discrete Laplace value each, kept or not."""
    scale = floor(sigma) + 1
    laplace = _laplace_proposals(count, scale, random)
    beyond = np.abs(laplace) - sigma * sigma / scale
    keep = _bernoulli_exp(beyond * beyond * (0.5 / (sigma * sigma)), random)
    kept: NDArray[np.int64] = laplace[keep]
    return kept


def _laplace_proposals(count: int, scale: int, random: Random) -> NDArray[np.int64]:
    """Algorithm 2, `count` times: P(y) ∝ exp(-|y| / scale); those that were not rejected."""
    remainder = _below(scale, count, random)
    remainder = remainder[_bernoulli_exp(remainder / scale, random)]
    magnitude = remainder + scale * _geometric(len(remainder), random)
    negative = _coins(len(magnitude), random)
    single = ~(negative & (magnitude == 0))  # zero has one sign
    drawn: NDArray[np.int64] = np.where(negative, -magnitude, magnitude)[single]
    return drawn


def _below(limit: int, count: int, random: Random) -> NDArray[np.int64]:
    """Exactly uniform integers in [0, limit), limit <= 2^32: `count`, less the rejected few."""
    drawn = np.frombuffer(random(4 * count), dtype="<u4")
    product = drawn * np.uint64(limit)  # Lemire 2019, https://arxiv.org/abs/1805.10941
    fair = product.astype(np.uint32) >= np.uint32(2**32 % limit)
    return (product[fair] >> np.uint64(32)).astype(np.int64)


def _geometric(count: int, random: Random) -> NDArray[np.int64]:
    """P(V >= k) = e^-k: how often exp(-1) came up before the first failure."""
    drawn = words(count, random)
    runs = np.zeros(count, dtype=np.int64)
    for power in _POWERS:
        runs += drawn < np.uint64(power)
    longer = np.flatnonzero(runs == _RUN)  # no failure yet: go on, as if from the start
    if len(longer):
        runs[longer] += _geometric(len(longer), random)
    return runs


def _bernoulli_exp(exponent: NDArray[np.float64], random: Random) -> NDArray[np.bool_]:
    """True with probability exp(-x), for each x >= 0; always for x = 0."""
    threshold = np.exp(-exponent) * 2.0**64
    certain = threshold >= 2.0**64
    threshold[certain] = 0
    below: NDArray[np.bool_] = words(len(exponent), random) < threshold.astype(np.uint64)
    return below | certain


def _coins(count: int, random: Random) -> NDArray[np.bool_]:
    tossed = np.frombuffer(random(ceil(count / 8)), dtype=np.uint8)
    return np.unpackbits(tossed, count=count).astype(np.bool_)
