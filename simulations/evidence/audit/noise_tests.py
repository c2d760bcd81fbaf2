"""What independent Gaussian noise of a claimed size must look like, as p-values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulations.evidence.audit.evidence import Evidence, two_sided_chi2, two_sided_normal

BEYOND = (2.0, 3.0, 4.0)  # standard deviations, where tails are counted
_TRIPLES = 1 / (2 * math.pi * math.sqrt(3)) - 1 / (4 * math.pi)  # ∫f³ − (∫f²)² of N(0, 1)


def test_noise(
    evidence: Evidence, what: str, z: NDArray[np.float64], blocks: Sequence[slice] = ()
) -> None:
    """Size, shape and independence of noise in units of its claimed standard deviation.

    Args:
        z: One release a row: [releases, coordinates].
        blocks: Parts of a release, such as layers, whose size is tested one by one.
    """
    test_size(evidence, what, z, blocks)
    test_shape(evidence, what, z.ravel())
    for one, two in itertools.combinations(range(len(z)), 2):
        evidence.tested(f"{what}: releases {one}, {two} correlated", _correlation(z[one], z[two]))
    evidence.tested(f"{what}: coordinates correlated", _between_coordinates(z))
    evidence.tested(f"{what}: size of one coordinate", _any_coordinate(z))


def test_size(
    evidence: Evidence, what: str, z: NDArray[np.float64], blocks: Sequence[slice] = ()
) -> None:
    """Variance of all, of each release and of each block, too small or too large."""
    squares = np.square(z)
    evidence.tested(f"{what}: variance {squares.mean():.3f}", two_sided_chi2(squares.sum(), z.size))
    if len(z) > 1:
        for number, each in enumerate(squares):
            p = two_sided_chi2(each.sum(), each.size)
            evidence.tested(f"{what}: variance {each.mean():.3f} of release {number}", p)
    for number, block in enumerate(blocks):
        part = squares[:, block]
        p = two_sided_chi2(part.sum(), part.size)
        evidence.tested(f"{what}: variance {part.mean():.3f} of block {number}", p)


def test_shape(evidence: Evidence, what: str, z: NDArray[np.float64]) -> None:
    """Mean, distribution (Kolmogorov and Smirnov) and how many are far out."""
    from scipy.stats import binomtest, kstest, norm

    evidence.tested(f"{what}: mean", two_sided_normal(float(z.sum()) / math.sqrt(z.size)))
    evidence.tested(f"{what}: distribution", float(kstest(z, "norm").pvalue))
    for limit in BEYOND:
        far, share = int((np.abs(z) > limit).sum()), 2 * float(norm.sf(limit))
        p = float(binomtest(far, z.size, share).pvalue)
        evidence.tested(f"{what}: {far} beyond {limit:g} standard deviations", p)


def test_repeats(evidence: Evidence, what: str, levels: NDArray[np.int64], std: float) -> None:
    """How many pairs of values are equal up to the sign, in noise of `std` levels.

    For N(0, s²) two of n are equal with probability 1 / (2√π s) each way.
    """
    _, counts = np.unique(np.abs(levels), return_counts=True)
    pairs, n = float((counts * (counts - 1.0)).sum()) / 2, levels.size
    expected = n * (n - 1) / 2 / (math.sqrt(math.pi) * std)
    spread = math.sqrt(expected + 4 * n**3 * _TRIPLES / std**2)
    if expected > 25:
        p = two_sided_normal((pairs - expected) / spread)
    else:
        from scipy.stats import poisson

        p = min(1.0, 2 * min(float(poisson.sf(pairs - 1, expected)),
                             float(poisson.cdf(pairs, expected))))  # fmt: skip
    evidence.tested(f"{what}: {pairs:.0f} repeated values, {expected:.0f} expected", p)


def require_entropy(
    evidence: Evidence, what: str, drawn_bytes: int, size: int, std_levels: float
) -> None:
    """Noise cannot hold more randomness than was drawn for it: exact.

    A Gaussian of s levels has log2(s √(2πe)) bits a coordinate; a short seed has not that many.
    """
    bits = size * max(0.0, math.log2(std_levels * math.sqrt(2 * math.pi * math.e)))
    evidence.at_most(f"{what}: bits of noise for bits of randomness", bits, 8 * drawn_bytes)


def _any_coordinate(z: NDArray[np.float64]) -> float:
    """The coordinate that is the smallest or largest over all releases, of so many."""
    from scipy.stats import chi2

    totals, (releases, size) = np.square(z).sum(axis=0), z.shape
    least, most = (
        float(chi2.cdf(totals.min(), releases)),
        float(chi2.sf(totals.max(), releases)),
    )
    return float(min(1.0, 2 * int(size) * min(least, most)))


def _correlation(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    norm = float(np.linalg.norm(one) * np.linalg.norm(two))
    return two_sided_normal(math.sqrt(one.size) * float(one @ two) / norm) if norm else 0.0


def _between_coordinates(z: NDArray[np.float64]) -> float:
    """The most correlated of all distances along the vector, corrected for their number."""
    spectrum: NDArray[Any] = np.square(np.abs(np.fft.rfft(z, axis=1))).sum(axis=0)
    along = np.fft.irfft(spectrum, n=z.shape[1])
    if not along[0] > 0:
        return 0.0
    lags = along[1 : z.shape[1] // 2] / along[0] * math.sqrt(z.size)
    return min(1.0, len(lags) * two_sided_normal(float(np.abs(lags).max())))
