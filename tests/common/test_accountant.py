"""ε of Gaussians against an integral and Google's accountant, and what failed or took long."""

from __future__ import annotations

from math import exp, log, pi, sqrt

import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from common.privacy import accountant
from common.privacy.accountant import Release, calibrate, epsilon, epsilon_of_two
from common.privacy.gaussian import gaussian_epsilon, gaussian_mu, log_delta

DELTA = 1e-5
NO_SAMPLING = [Release(1.0, 1.0, 3)]


def integral(eps: float, mu: float) -> float:
    """The hockey-stick divergence of N(μ, 1) from N(0, 1): ∫ max(0, p - e^ε q)."""
    border = eps / mu + mu / 2  # above it p > e^ε q

    def beyond(x: float) -> float:
        return exp(-((x - mu) ** 2) / 2) - exp(eps - x * x / 2)

    width = 12 / max(1.0, border - mu)  # the tail falls like e^-(border - μ)x
    area = quad(beyond, border, border + width, epsabs=0, epsrel=1e-9, limit=200)[0]
    return area / sqrt(2 * pi)


@pytest.mark.parametrize("mu", [0.05, 0.5, 1.9, 6.0])
@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-15, 1e-30, 1e-150])
def test_a_gaussians_epsilon_is_where_the_integral_says(mu: float, delta: float) -> None:
    found = gaussian_epsilon(mu, delta)
    assert integral(found, mu) == pytest.approx(delta, rel=1e-4)
    assert log_delta(found, mu) <= log(delta)  # rounded to the safe side
    assert gaussian_mu(found, delta) == pytest.approx(mu, rel=1e-9)
    assert gaussian_epsilon(gaussian_mu(found, delta), delta) <= found


@given(st.lists(st.tuples(st.floats(0.5, 50), st.integers(1, 9)), min_size=1, max_size=6))
def test_gaussians_in_any_order_are_one(parts: list[tuple[float, int]]) -> None:
    events = [Release(sigma, 1.0, steps) for sigma, steps in parts]
    mu = sqrt(sum(steps / sigma**2 for sigma, steps in parts))
    assert epsilon(events, DELTA) == pytest.approx(gaussian_epsilon(mu, DELTA), rel=1e-9)
    assert epsilon(events[::-1], DELTA) == epsilon(events, DELTA)


@pytest.mark.parametrize(
    "events",
    [
        [Release(1.1, 1.0, 3), Release(5.5, 1.0, 3)],
        [Release(20.0, 1.0, 3), Release(100.0, 1.0, 3), Release(9.0, 1.0, 2)],
        [Release(1.2, 0.25, 12), Release(6.0, 1.0, 3), Release(3.0, 1.0, 3)],
    ],
)
def test_training_counts_and_evaluations_compose_as_googles_accountant_says(
    events: list[Release],
) -> None:
    theirs = PLDAccountant()
    for event in events:
        gaussian = dp_event.GaussianDpEvent(event.noise_multiplier)
        sampled = dp_event.PoissonSampledDpEvent(event.sample_rate, gaussian)
        theirs.compose(sampled if event.sample_rate < 1 else gaussian, event.steps)
    expected = float(theirs.get_epsilon(DELTA))
    assert epsilon(events, DELTA) == pytest.approx(expected, rel=1e-3, abs=0.02)


@pytest.mark.parametrize(
    ("target", "delta", "planned"),
    [
        (0.1, 1e-5, NO_SAMPLING),
        (0.1, 1e-15, NO_SAMPLING),
        (0.001, 1e-5, NO_SAMPLING),
        (8.0, 1e-15, NO_SAMPLING),
        (500.0, DELTA, NO_SAMPLING),
        (0.1, 1e-5, [Release(1.0, 0.2, 3)]),
        (2.0, 1e-15, [Release(1.0, 0.2, 3), Release(5.0, 1.0, 3)]),
        (500.0, DELTA, [Release(1.0, 0.2, 3), Release(5.0, 1.0, 3)]),
    ],
)
@pytest.mark.parametrize("name", ["prv", "rdp"])
def test_small_and_large_budgets_are_used_and_kept(
    target: float, delta: float, planned: list[Release], name: str
) -> None:
    sigma = calibrate([], planned, target=target, delta=delta, accountant=name)
    scaled = [Release(sigma * e.noise_multiplier, e.sample_rate, e.steps) for e in planned]
    spent = epsilon(scaled, delta, name)
    assert 0.75 * target <= spent <= target


def test_two_hundred_different_noises_are_a_dozen_mechanisms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each takes the time of one; less noise than there was is a bound, and a close one."""
    composed = []
    exact = accountant._prv

    def watched(events: list[Release], delta: float) -> float:
        composed.append(len(events))
        return exact(events, delta)

    monkeypatch.setattr(accountant, "_prv", watched)
    many = [Release(5 + i / 100, 0.2, 1) for i in range(200)]
    found = epsilon([*many, Release(30.0, 1.0, 50)], DELTA)
    assert composed
    assert max(composed) <= accountant.MECHANISMS + 1
    middle = [Release(6.0, 0.2, 200), Release(30.0, 1.0, 50)]
    assert epsilon([Release(7.0, 0.2, 200)], DELTA) < found < 1.1 * epsilon(middle, DELTA)


def test_two_examples_cost_twice_the_sensitivity() -> None:
    sigma = calibrate([], NO_SAMPLING, target=8.0, delta=DELTA)
    events = [Release(sigma, 1.0, 3)]
    theirs = PLDAccountant().compose(dp_event.GaussianDpEvent(sigma / 2), 3)
    assert epsilon_of_two(events, DELTA) == pytest.approx(theirs.get_epsilon(DELTA), rel=1e-3)
    assert epsilon_of_two(events, DELTA) == pytest.approx(19.12, abs=0.01)
    sampled = [Release(2.0, 0.5, 3)]
    assert 2 * epsilon(sampled, DELTA) < epsilon_of_two(sampled, DELTA) < 20
    assert epsilon_of_two([], DELTA) == 0.0
