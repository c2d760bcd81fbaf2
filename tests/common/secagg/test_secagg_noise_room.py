"""Room for noise: sums wrap as rarely as promised, and no level is given away."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from common.errors import InputError
from common.privacy.noise import SIGMA_RANGE
from common.secagg import levels_for, levels_with_noise, wrap_margin
from common.secagg.noise_room import LEAST_NOISE, MOST_NOISE

PROMISE = 2.0**-40


def tail_of_sum(sigma: float, cohort: int, beyond: int) -> float:
    """P(|sum of discrete Gaussians| > beyond), by convolution."""
    reach = int(40 * sigma)
    one = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    one /= one.sum()
    total = np.ones(1)
    for _ in range(cohort):
        total = np.convolve(total, one)
    middle = len(total) // 2
    return float(total[: middle - beyond].sum() + total[middle + beyond + 1 :].sum())


@pytest.mark.parametrize(("sigma", "cohort"), [(2.0, 1), (2.0, 3), (3.5, 5), (9.0, 12)])
def test_sums_of_discrete_gaussians_stay_within_the_margin(sigma: float, cohort: int) -> None:
    dimension = 20_000
    margin = wrap_margin(sigma, cohort, dimension)
    assert dimension * tail_of_sum(sigma, cohort, margin) <= PROMISE
    # Not by a wide margin: a tenth less would break the promise.
    assert dimension * tail_of_sum(sigma, cohort, int(0.9 * margin)) > PROMISE


@given(st.floats(2, 1e5), st.integers(1, 10_000), st.integers(1, 10**8))
def test_large_noise_stays_within_the_margin(sigma, cohort, dimension) -> None:
    margin = wrap_margin(sigma, cohort, dimension)
    two_tails = log(2 * dimension) + norm.logsf(margin / (sigma * cohort**0.5))
    assert two_tails <= log(PROMISE)


def test_no_noise_needs_no_room() -> None:
    assert wrap_margin(0.0, 1000, 10**7) == 0


@given(
    st.sampled_from([16, 24, 32]),
    st.integers(1, 2000),
    st.integers(1, 10**7),
    st.floats(0, 1),
)
def test_levels_are_the_most_that_fit(bits, cohort, dimension, share) -> None:
    def largest(levels: int) -> int:
        if share * levels > 2**26:
            return 2**bits  # cannot be drawn
        return cohort * levels + wrap_margin(share * levels, cohort, dimension)

    try:
        levels = levels_with_noise(cohort, bits, dimension, share)
    except InputError:
        assert largest(1) > 2 ** (bits - 1) - 1
        return
    assert largest(levels) <= 2 ** (bits - 1) - 1 < largest(levels + 1)


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_levels_without_noise_are_those_of_the_plain_quantiser(bits: int) -> None:
    assert levels_with_noise(60, bits, 10**6, 0.0) == levels_for(60, bits)


def test_noise_that_fits_no_modulus_is_refused() -> None:
    with pytest.raises(InputError, match="do not fit 16 bits"):
        levels_with_noise(1000, 16, 10**6, 1000.0)


def test_terms_allow_the_noise_that_can_be_drawn_and_no_more() -> None:
    assert SIGMA_RANGE[0] <= LEAST_NOISE
    assert SIGMA_RANGE[1] == MOST_NOISE == 2**26
    levels = levels_with_noise(5, 32, 1000, 2.0)
    assert levels == 2**25  # the modulus has room for more
