"""A person's ε: the distributed discrete Gaussian by hand, composition against an oracle."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from scipy.special import logsumexp

from common.errors import BudgetExceededError, InputError
from common.privacy.user_level import calibrate_user, rho, user_epsilon

DELTA = 1e-5


def test_rho_is_that_of_one_gaussian_when_shares_are_wide() -> None:
    """levels 300, 25 shares of σ = 20: Δ / σ = 3, ρ = 9 / 2; τ is below 10^-800."""
    assert rho(300, 20.0, 25, 10_000_000) == pytest.approx(4.5, rel=1e-12)


def test_rho_of_one_share_is_that_of_the_discrete_gaussian() -> None:
    """Canonne, Kamath and Steinke 2020, theorem 4: ρ = Δ² / 2σ², whatever the dimension."""
    assert rho(3.0, 0.5, 1, 10**9) == 18.0


@pytest.mark.parametrize(
    ("levels", "members", "dimension", "expected"),
    [
        (3.0, 2, 4, 9 + 4 * 0.848049),  # Δ² = 9 / (2 · 0.25) = 18
        (3.0, 3, 4, 6 + 4 * 1.220637),  # Δ² = 12
        (0.001, 2, 1, (0.00141421 + 0.848049) ** 2 / 2),  # Δ = 0.001 / sqrt(0.5)
        (0.0, 2, 4, (2 * 0.848049) ** 2 / 2),
    ],
)
def test_rho_with_narrow_shares_by_hand(
    levels: float, members: int, dimension: int, expected: float
) -> None:
    """s = 0.5: τ = 10 e^-2.467401 = 0.848049 for two, and 10 e^-3.289868 = 0.372588 more for three.

    The first two are Δ² / 2 + τ d, the others (Δ + τ √d)² / 2.
    """
    assert rho(levels, 0.5, members, dimension) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("noise", [0.5, 0.8, 1.0, 2.0])
@pytest.mark.parametrize("shift", [1, 2, 5])
@pytest.mark.parametrize("order", [1.01, 2.0, 8.0])
def test_rho_bounds_the_exact_divergence_of_two_shares(
    noise: float, shift: int, order: float
) -> None:
    """Rényi divergence of the sum of two discrete Gaussians from the same sum, moved."""
    reach = np.arange(-150, 151)
    share = -(reach**2) / (2 * noise**2)
    share -= logsumexp(share)
    total = np.array([logsumexp(share[: k + 1] + share[k::-1]) for k in range(len(reach))])
    total = np.concatenate([total, total[-2::-1]])  # ln P(sum), -300 to 300
    ours, moved = total[shift:], total[:-shift]
    exact = float(logsumexp(order * ours + (1 - order) * moved)) / (order - 1)
    single = order * shift**2 / (4 * noise**2)  # of one discrete Gaussian with their variance
    assert 0.5 * single < exact <= order * rho(shift, noise, 2, 1) * (1 + 1e-9)  # rounding


def test_more_members_or_noise_cost_less() -> None:
    first = rho(100, 4.0, 10, 1000)
    assert rho(100, 4.0, 11, 1000) < first
    assert rho(100, 4.1, 10, 1000) < first
    assert rho(101, 4.0, 10, 1000) > first


@pytest.mark.parametrize(("noise", "members"), [(0.4, 10), (-1.0, 10), (4.0, 0), (float("nan"), 3)])
def test_noise_that_the_theorem_does_not_cover_is_refused(noise: float, members: int) -> None:
    with pytest.raises(InputError, match="bounds nothing"):
        rho(100, noise, members, 10)


def test_no_releases_cost_nothing_and_one_without_noise_everything() -> None:
    assert user_epsilon([], DELTA) == 0.0
    assert rho(100, 0.0, 10, 10) == inf
    assert user_epsilon([0.1, inf], DELTA) == inf


@pytest.mark.parametrize(
    ("multiplier", "releases"),
    [(0.5, 1), (1.0, 1), (2.0, 4), (3.0, 20), (10.0, 50), (20.0, 1), (100.0, 1)],
)
def test_epsilon_is_above_the_tight_accountant_by_at_most_15_percent(
    multiplier: float, releases: int
) -> None:
    """Google's PLD accountant on the central Gaussian of that ρ; ρ alone loses 5 to 14 %."""
    from dp_accounting import dp_event
    from dp_accounting.pld import PLDAccountant

    tight = PLDAccountant()
    tight.compose(dp_event.GaussianDpEvent(multiplier), releases)
    exact = tight.get_epsilon(DELTA)
    ours = user_epsilon([1 / (2 * multiplier**2)] * releases, DELTA)
    assert exact <= ours <= 1.15 * exact


def test_epsilon_by_hand() -> None:
    """ρ = 1/2 at α = 5.5: 2.75 + ln(9/11) - ln(5.5e-5) / 4.5 = 4.72894; the best is close by."""
    assert 4.728 < user_epsilon([0.25, 0.25], DELTA) < 4.729


@pytest.mark.parametrize("target", [0.1, 1.0, 8.0])
@pytest.mark.parametrize("past", [[], [1e-5, 2e-5]])
def test_calibration_uses_the_budget_and_no_more(past: list[float], target: float) -> None:
    each = calibrate_user(past, 6, target, DELTA)
    assert user_epsilon([*past, *[each] * 6], DELTA) <= target
    assert user_epsilon([*past, *[each * (1 + 1e-6)] * 6], DELTA) > target
    assert sum(past) + 6 * each == pytest.approx(6 * calibrate_user([], 6, target, DELTA))


@pytest.mark.parametrize("past", [[1.0, 1.0], [inf]])
def test_a_spent_budget_is_refused(past: list[float]) -> None:
    with pytest.raises(BudgetExceededError, match=r"is spent"):
        calibrate_user(past, 1, 4.0, DELTA)
