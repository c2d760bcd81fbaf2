"""Which σ a device uses, whatever it did before; the server never states less than it cost."""

from __future__ import annotations

import itertools

import pytest

from client.federation.budget import next_evaluation, next_release
from common.errors import BudgetExceededError
from common.privacy.accountant import Release, epsilon
from common.privacy.gaussian import gaussian_epsilon
from common.privacy.releases import COUNT_NOISE, count, planned_sigma
from common.settings import Settings
from server.round.spending import spent_after

SETTINGS = Settings.of(users=5, rounds=3)
INF = float("inf")


class Ledger:
    """A device's: training, counts and evaluations, charged as rounds come."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.everything: list[Release] = []
        self.evaluations: list[Release] = []

    def take_part(self, number: int) -> float:
        """The σ of one more round."""
        trained = next_release(self.everything, self.settings, number, self.evaluations)
        scored = next_evaluation(self.evaluations, self.settings, number)
        self.everything += [trained, count(trained.noise_multiplier)]
        if scored:
            self.everything.append(scored)
            self.evaluations.append(scored)
        return trained.noise_multiplier

    @property
    def epsilon(self) -> float:
        return epsilon(self.everything, self.settings.record.delta, self.settings.record.accountant)


def stated(settings: Settings, attempts: int) -> float:
    """What the server says after so many attempts."""
    record = spent_after(settings, [INF] * attempts).record
    assert record
    return record.epsilon


@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_rounds_share_the_budget_and_the_last_one_ends_it(rate: float) -> None:
    ledger = Ledger(SETTINGS.but(epsilon=4.0, sample_rate=rate))
    sigmas = {ledger.take_part(number) for number in (1, 2, 3)}
    assert len(sigmas) == 1
    assert 3.9 < ledger.epsilon <= 4.0 * (1 + 1e-9)
    before = list(ledger.everything)
    for number in (3, 9):  # a fourth release; a round the run does not have
        with pytest.raises(BudgetExceededError):
            ledger.take_part(number)
    assert ledger.everything == before


@pytest.mark.parametrize("evaluations", [0.0, 3.0])
@pytest.mark.parametrize("rounds", [(1, 2, 3), (3,), (2, 3), (1, 3)])
def test_whoever_joins_late_or_declines_spends_no_more_than_the_server_states(
    rounds: tuple[int, ...], evaluations: float
) -> None:
    """A device that found two of three rounds unused used all of its ε for the third."""
    settings = SETTINGS.but(evaluation_epsilon=evaluations)
    ledger = Ledger(settings)
    for number in rounds:
        assert ledger.take_part(number) >= planned_sigma(settings)
    assert ledger.epsilon <= stated(settings, len(rounds)) * (1 + 1e-9)
    assert stated(settings, len(rounds)) <= settings.record.epsilon


def test_a_round_of_three_costs_what_its_gaussians_are() -> None:
    sigma = planned_sigma(SETTINGS)
    mu = (1 / sigma**2 + 1 / (COUNT_NOISE * sigma) ** 2) ** 0.5
    assert stated(SETTINGS, 1) == pytest.approx(gaussian_epsilon(mu, 1e-5))
    assert stated(SETTINGS, 3) == pytest.approx(gaussian_epsilon(3**0.5 * mu, 1e-5))
    assert stated(SETTINGS, 3) == pytest.approx(8.0)
    assert stated(SETTINGS, 0) == 0


def test_sampled_cohorts_are_charged_by_the_attempt_too() -> None:
    settings = Settings.of(users=100, cohort=10, rounds=50)
    ledger = Ledger(settings)
    said = [stated(settings, attempts) for attempts in (1, 2, 3)]
    for number, most in zip((30, 48, 50), said, strict=True):
        ledger.take_part(number)
        assert ledger.epsilon <= most * (1 + 1e-9)
    assert said[0] < said[1] < said[2] < 8
    assert stated(settings, 500) == 8


def test_after_a_run_with_a_small_budget_one_with_a_large_uses_what_fits() -> None:
    """It kept σ = 18.8 where 1.05 fits, because that fitted too."""
    small = Ledger(SETTINGS.but(epsilon=1.0))
    for number in (1, 2, 3):
        small.take_part(number)
    large = Ledger(SETTINGS)
    large.everything = list(small.everything)
    sigmas = [large.take_part(number) for number in (1, 2, 3)]
    assert planned_sigma(SETTINGS) < sigmas[0] < 1.05 * planned_sigma(SETTINGS)
    assert sigmas == pytest.approx([sigmas[0]] * 3)
    assert 7.9 < large.epsilon <= 8.0 * (1 + 1e-9)


def test_round_one_asked_six_times_costs_what_arithmetic_says() -> None:
    """Each time the same share of what is left, 1/3: μ² is multiplied by 2/3."""
    ledger = Ledger(SETTINGS)
    sigmas = [ledger.take_part(1) for _ in range(6)]
    for before, after in itertools.pairwise(sigmas):
        assert after == pytest.approx(before * 1.5**0.5, rel=1e-6)
    assert sigmas[-1] < 3 * sigmas[0]  # it was 50 times
    assert ledger.epsilon < 8


@pytest.mark.parametrize("delta", [1e-5, 1e-15])
def test_small_evaluation_budgets_work(delta: float) -> None:
    """ε = 0.1 was "no amount of noise"."""
    settings = SETTINGS.but(evaluation_epsilon=0.1, delta=delta)
    ledger = Ledger(settings)
    for number in (1, 2, 3):
        ledger.take_part(number)
    assert len(ledger.evaluations) == 3
    assert 0.099 < epsilon(ledger.evaluations, delta) <= 0.1 * (1 + 1e-9)
    assert 7.9 < ledger.epsilon <= 8 * (1 + 1e-9)


def test_a_large_budget_is_used() -> None:
    """ε = 500 quietly became 68.5."""
    ledger = Ledger(SETTINGS.but(epsilon=500.0))
    for number in (1, 2, 3):
        ledger.take_part(number)
    assert 499 < ledger.epsilon <= 500 * (1 + 1e-9)
