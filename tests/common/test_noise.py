"""Noise and batches: distributions against theory, and where their bytes come from.

Tolerances of five standard errors, and p-values of 1e-6, are passed by a right sampler on all but
one seed in a million; the seeds are fixed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from math import exp, inf, log, nan, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from client.federation import steps
from client.federation.device import Device, SystemRandomness
from client.federation.steps import Steps
from common.errors import InputError
from common.privacy import noise
from common.privacy.noise import discrete_gaussian, gaussian, poisson_batch
from common.privacy.randomness import Random
from simulations.devices import SeededRandomness

DRAWS = 200_000
SURE = 1e-6


def stream(purpose: str = "noise", user: int = 0) -> Random:
    return SeededRandomness(7, user).stream(purpose)


def given(*words: int) -> Random:
    """A source that gives just these 64-bit words."""
    left = b"".join(word.to_bytes(8, "little") for word in words)

    def read(size: int) -> bytes:
        nonlocal left
        assert len(left) >= size, "more bytes were asked for than the case provides"
        head, left = left[:size], left[size:]
        return head

    return read


def correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(np.corrcoef(first, second)[0, 1])


def test_gaussian_has_the_moments_of_its_distribution() -> None:
    """The r-th power's standard error is sqrt((E z^2r - (E z^r)^2) / n)."""
    z = gaussian(DRAWS, 3.0, stream()) / 3.0
    for power, mean, second in ((1, 0, 1), (2, 1, 3), (3, 0, 15), (4, 3, 105), (6, 15, 10395)):
        error = sqrt((second - mean**2) / DRAWS)
        assert abs((z**power).mean() - mean) < 5 * error


@pytest.mark.parametrize("size", [DRAWS, DRAWS + 1])
def test_gaussian_passes_kolmogorov_and_smirnov(size: int) -> None:
    assert stats.kstest(gaussian(size, 0.5, stream()), stats.norm(scale=0.5).cdf).pvalue > SURE


def test_gaussian_tails_are_neither_heavy_nor_cut() -> None:
    """P(one of n beyond sqrt(2 ln(2n / p))) <= p, and P(none beyond 3.5) = e^-93."""
    z = np.abs(gaussian(DRAWS, 1.0, stream()))
    assert 3.5 < z.max() < sqrt(2 * log(2 * DRAWS / SURE))


def test_gaussian_values_are_independent_of_each_other() -> None:
    """Also in size: sine and cosine of one pair of uniforms share their radius."""
    z = gaussian(DRAWS, 1.0, stream())
    half = DRAWS // 2
    for first, second in ((z[:-1], z[1:]), (z[:-2], z[2:]), (z[:half], z[half:])):
        assert abs(correlation(first, second)) < 5 / sqrt(len(first))
        assert abs(correlation(first**2, second**2)) < 5 / sqrt(len(first))


def test_each_gaussian_is_half_the_sum_of_four() -> None:
    """Uniforms u, v give sqrt(-2 ln(1 - u)) · (cos 2πv, sin 2πv); eight words, two values."""
    u, v = (0.5, 0.25, 0.75, 0.125), (0.125, 0.5, 0.875, 0.25)
    drawn = gaussian(2, 2.0, given(*(int(x * 2**64) for x in (*u, *v))))
    normals = [sqrt(-2 * log(1 - x)) * np.exp(2j * np.pi * y) for x, y in zip(u, v, strict=True)]
    assert drawn.tolist() == pytest.approx([sum(normals).real, sum(normals).imag])


def test_no_noise_needs_no_bytes() -> None:
    assert gaussian(3, 0.0, given()).tolist() == [0, 0, 0]


@pytest.mark.parametrize("std", [-1.0, nan, inf])
def test_a_standard_deviation_that_is_none_is_refused(std: float) -> None:
    with pytest.raises(InputError, match=f"{std}"):
        gaussian(3, std, stream())


def test_a_batch_holds_each_index_with_the_stated_probability() -> None:
    """A thousand batches of 200 at 0.3: a word below 0.3 · 2^64, each on its own."""
    random, count = stream(), Counter[int]()
    sizes = []
    for _ in range(1000):
        batch = poisson_batch(200, 0.3, random)
        assert batch == sorted(set(batch))
        count.update(batch)
        sizes.append(len(batch))
    spread = sqrt(0.3 * 0.7)
    assert abs(np.mean(sizes) - 60) < 5 * spread * sqrt(200 / 1000)
    assert abs(np.var(sizes) / (200 * 0.3 * 0.7) - 1) < 5 * sqrt(2 / 1000)
    assert all(abs(count[index] - 300) < 5.5 * spread * sqrt(1000) for index in range(200))


def test_a_batch_compares_whole_words() -> None:
    half = 2**63
    assert poisson_batch(4, 0.5, given(half - 1, half, 0, 2**64 - 1)) == [0, 2]
    assert poisson_batch(3, 0.0, given(0, 0, 0)) == []
    assert poisson_batch(3, 1.0, given()) == [0, 1, 2]
    assert poisson_batch(2, 2.0**-64, given(0, 1)) == [0]


@pytest.mark.parametrize("rate", [-0.1, 1.01, nan])
def test_a_rate_that_is_no_probability_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match=f"{rate}"):
        poisson_batch(3, rate, stream())


def chi_square(drawn: NDArray[np.int64], weights: dict[int, float]) -> float:
    """P-value of the draws against probabilities ∝ weights, tails pooled to 10 expected a bin."""
    total, seen = sum(weights.values()), Counter(drawn.tolist())
    assert set(seen) <= set(weights)
    observed, expected = [0.0], [0.0]
    for value in sorted(weights):
        if expected[-1] >= 10:
            observed.append(0.0)
            expected.append(0.0)
        observed[-1] += seen[value]
        expected[-1] += len(drawn) * weights[value] / total
    observed[-2:], expected[-2:] = [sum(observed[-2:])], [sum(expected[-2:])]
    return float(stats.chisquare(observed, expected).pvalue)


@pytest.mark.parametrize("sigma", [0.5, 0.7, 1.0, 2.0, 3.75, 50.0])
def test_discrete_gaussian_fits_its_exact_probabilities(sigma: float) -> None:
    drawn = discrete_gaussian(DRAWS, sigma, stream())
    around = range(-int(40 * sigma), int(40 * sigma) + 1)
    assert chi_square(drawn, {y: exp(-(y**2) / (2 * sigma**2)) for y in around}) > SURE


@pytest.mark.parametrize("sigma", [1000.5, 2.0**26])
def test_a_wide_discrete_gaussian_is_a_gaussian(sigma: float) -> None:
    """The two distribution functions differ by less than 1 / σ, below what 200,000 draws show."""
    drawn = discrete_gaussian(DRAWS, sigma, stream())
    statistic = stats.kstest(drawn, stats.norm(scale=sigma).cdf).statistic
    assert statistic < 2.7 / sqrt(DRAWS) + 1 / sigma  # P(D sqrt(n) > 2.7) = 2 exp(-2 · 2.7²)


@pytest.mark.parametrize("sigma", [0.7, 2.0, 2.0**26])
def test_discrete_gaussian_is_sub_gaussian(sigma: float) -> None:
    drawn = np.abs(discrete_gaussian(DRAWS, sigma, stream()))
    assert sigma < drawn.max() < sigma * sqrt(2 * log(2 * DRAWS / SURE))


def test_discrete_values_are_independent_of_each_other() -> None:
    drawn = discrete_gaussian(DRAWS, 2.0, stream()).astype(np.float64)
    for lag in (1, 2, 3):
        first, second = drawn[:-lag], drawn[lag:]
        assert abs(correlation(first, second)) < 5 / sqrt(DRAWS)
        assert abs(correlation(first**2, second**2)) < 5 / sqrt(DRAWS)


@pytest.mark.parametrize("sigma", [0.0, -1.0, 0.49, 2.0**27, nan, inf])
def test_a_sigma_out_of_range_is_refused(sigma: float) -> None:
    with pytest.raises(InputError, match="cannot be drawn"):
        discrete_gaussian(3, sigma, stream())


@pytest.mark.parametrize("scale", [1, 3])
def test_discrete_laplace_fits_its_exact_probabilities_far_out(scale: int) -> None:
    """Beyond 8 · scale too, where a second word carries on from the first."""
    drawn = noise._laplace_proposals(2 * DRAWS, scale, stream())
    assert (np.abs(drawn) > 8 * scale).sum() > 20
    around = range(-60 * scale, 60 * scale + 1)
    assert chi_square(drawn, {y: exp(-abs(y) / scale) for y in around}) > SURE


def test_bernoulli_compares_with_the_whole_power() -> None:
    """e^0 is certain even for the largest word, e^-44 is possible, and e^-45 < 2^-64 is not."""
    exponents = np.array([0.0, 1.0, 44.0, 45.0])
    assert noise._bernoulli_exp(exponents, given(*[2**64 - 1] * 4)).tolist() == [1, 0, 0, 0]
    assert noise._bernoulli_exp(exponents, given(*[0] * 4)).tolist() == [1, 1, 1, 0]


def test_geometric_counts_the_powers_that_a_word_is_below() -> None:
    """⌊2^64 / e⌋ = 0x5e2d58d8b3bcdf1a: one word below decides V >= 1; e^-8 · 2^64 goes on."""
    inverse = 0x5E2D58D8B3BCDF1A
    assert noise._geometric(2, given(inverse, inverse - 1)).tolist() == [0, 1]
    assert noise._geometric(3, given(0, 2**63, 0, inverse - 1, 2**63)).tolist() == [9, 0, 8]


def test_below_is_exactly_uniform() -> None:
    """2^32 mod 3 = 1, so of all 32-bit words one is rejected: 0, whose product's low half is 0."""
    rejected, first, last = bytes(4), (1).to_bytes(4, "little"), b"\xff" * 4
    drawn = noise._below(3, 3, iter_bytes(rejected + first + last))
    assert drawn.tolist() == [0, 2]
    assert noise._below(1, 3, iter_bytes(rejected + first + last)).tolist() == [0, 0, 0]


def iter_bytes(data: bytes) -> Random:
    left: Iterator[int] = iter(data)
    return lambda size: bytes(next(left) for _ in range(size))


def test_a_real_device_draws_from_the_operating_system() -> None:
    device = Device(0, [], [], None, None)  # type: ignore[arg-type]
    assert isinstance(device.randomness, SystemRandomness)
    assert device.randomness.stream("noise") is os.urandom
    assert device.steps is steps.SOUND == Steps()


@pytest.mark.parametrize("size", [10, 100_000])
def test_the_same_seed_user_and_purpose_give_the_same_noise_and_no_other_do(size: int) -> None:
    def noises(random: Random) -> tuple[bytes, bytes]:
        return gaussian(size, 1.0, random).tobytes(), discrete_gaussian(size, 9.0, random).tobytes()

    assert noises(stream("noise", 1)) == noises(stream("noise", 1))
    sources = [("noise", 1), ("noise", 2), ("user-noise", 1)]
    drawn = [part for source in sources for part in noises(stream(*source))]
    assert len(set(drawn)) == len(drawn)
    random = stream()
    assert noises(random) != noises(random)  # a stream goes on
