"""The audit's exact and noise checks: their arithmetic, their risk and power, what they catch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from common.privacy.noise import poisson_batch
from common.privacy.randomness import Random, words
from simulations.evidence.audit.account import account
from simulations.evidence.audit.arithmetic import (
    Noisy,
    epsilon_of,
    gaussian_delta,
    gaussian_epsilon,
    zcdp_epsilon,
)
from simulations.evidence.audit.checks import TELLING, Check
from simulations.evidence.audit.evidence import (
    POWER,
    RISK,
    Evidence,
    two_sided_chi2,
    variance_caught,
)
from simulations.evidence.audit.exact_figure import exact_figure, noise_figure
from simulations.evidence.audit.exact_record import exact_record
from simulations.evidence.audit.exact_user import exact_user, noise_user
from simulations.evidence.audit.example_choice import choice
from simulations.evidence.audit.faults import PLANTED, fault_inside
from simulations.evidence.audit.findings import BROKEN, CAUGHT, HOLDS, SOUND
from simulations.evidence.audit.noise_record import noise_record
from simulations.evidence.audit.noise_tests import require_entropy, test_noise, test_repeats
from simulations.evidence.audit.sampling import sampling
from simulations.evidence.audit.scale import QUICK
from simulations.evidence.audit.system import System
from simulations.evidence.audit.variants import VARIANTS

test_noise.__test__ = test_repeats.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_the_gaussians_delta_is_the_integral() -> None:
    """∫ max(0, p − e^ε q) of N(μ, 1) against N(0, 1), numerically."""
    for mu, epsilon in ((0.5, 0.3), (1.0, 1.0), (3.0, 4.0)):
        x = np.linspace(-12, 16, 400_001)
        p, q = (np.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (mu, 0.0))
        integral = float(np.maximum(0, p - math.exp(epsilon) * q).sum() * (x[1] - x[0]))
        assert gaussian_delta(mu, epsilon) == pytest.approx(integral, rel=1e-4)
        assert gaussian_epsilon(mu, integral) == pytest.approx(epsilon, rel=1e-4)


def test_releases_compose_by_their_squares() -> None:
    several = [Noisy(4.0, times=3), Noisy(2.0), Noisy(8.0, times=4)]
    mu = math.sqrt(3 / 16 + 1 / 4 + 4 / 64)
    assert epsilon_of(several, 1e-5) == gaussian_epsilon(mu, 1e-5)
    assert epsilon_of([], 1e-5) == 0.0
    assert epsilon_of([Noisy(0.0)], 1e-5) == math.inf
    # With sampling: all in at rate 1 is the same by the other way, and less at a lower rate.
    nearly = epsilon_of([Noisy(2.0, 1 - 1e-9, 4)], 1e-5)
    assert nearly == pytest.approx(gaussian_epsilon(1.0, 1e-5), rel=2e-3)
    assert epsilon_of([Noisy(2.0, 0.5, 4)], 1e-5) < 0.7 * nearly


def test_zcdp_by_a_grid_of_orders() -> None:
    for rho, delta in ((0.01, 1e-5), (0.5, 1e-6), (4.0, 1e-3)):
        a = 1 + np.logspace(-3, 5, 100_000)
        grid = a * rho + np.log1p(-1 / a) - (math.log(delta) + np.log(a)) / (a - 1)
        assert zcdp_epsilon(rho, delta) == pytest.approx(grid.min(), rel=1e-6)
        assert zcdp_epsilon(rho, delta) > gaussian_epsilon(math.sqrt(2 * rho), delta)


def refuted(z: np.typing.NDArray[np.float64]) -> bool:
    evidence = Evidence()
    test_noise(evidence, "z", z, [slice(0, 512), slice(512, 2048)])
    return bool(evidence.improbable())


def test_sound_noise_is_refuted_as_seldom_as_it_says() -> None:
    """200 draws at 0.1 %: 0.2 are expected; 4 or more have a probability of 6e-5."""
    chance = np.random.default_rng(0)
    assert sum(refuted(chance.normal(size=(3, 2048))) for _ in range(200)) < 4


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("too little", lambda z: 0.9 * z),
        ("too much", lambda z: 1.1 * z),
        ("too little in one release", lambda z: z * np.array([[1], [0.85], [1]])),
        ("too little in one block", lambda z: np.where(np.arange(2048) < 512, 0.85 * z, z)),
        ("none in one block", lambda z: np.where(np.arange(2048) < 512, 0 * z, z)),
        ("none in one coordinate", lambda z: np.where(np.arange(2048) == 700, 0 * z, z)),
        ("the same twice", lambda z: z[[0, 1, 0]]),
        ("the opposite", lambda z: np.stack([z[0], -z[0], z[1]])),
        ("in part the same", lambda z: np.stack([z[0], 0.8 * z[1] + 0.6 * z[0], z[2]])),
        ("repeated along the vector", lambda z: np.tile(z[:, :128], 16)),
        ("uniform", lambda z: math.sqrt(12) * (np.argsort(np.argsort(z)) / 2048 - 0.5)),
        ("cut off", lambda z: np.clip(z, -2.5, 2.5)),
        ("moved", lambda z: z + 0.15),
        ("no number", lambda z: np.where(np.arange(2048) == 5, np.nan, z)),
    ],
)
def test_broken_noise_is_refuted(name: str, broken: Callable[[Any], Any]) -> None:
    chance = np.random.default_rng(1)
    assert all(refuted(broken(chance.normal(size=(3, 2048)))) for _ in range(5)), name


def test_the_stated_power_is_met() -> None:
    """99 % of 2,000 draws at the stated deviation, less 5 σ of 0.22 %."""
    count, tests = 4000, 20
    caught = variance_caught(count, tests)
    for scale in (1 + caught, 1 - caught):
        total = np.random.default_rng(2).chisquare(count, 2000) * scale
        found = np.mean([two_sided_chi2(t, count) < RISK / tests for t in total])
        assert found > POWER - 0.011


def test_repeated_values_are_counted() -> None:
    """Noise of 3,000 levels: as often as theory says, and four times as often on every 4th."""
    chance = np.random.default_rng(3)
    for coarse, wrong in ((1, False), (4, True)):
        evidence = Evidence()
        levels = np.rint(chance.normal(0, 3000 / coarse, 20_000)).astype(np.int64) * coarse
        test_repeats(evidence, "levels", levels, 3000.0)
        assert bool(evidence.improbable()) == wrong


def test_noise_holds_no_more_than_was_drawn() -> None:
    """1,000 levels are log2(1,000 √(2πe)) = 12.01 bits a coordinate."""
    for drawn, wrong in ((151, False), (149, True), (4, True), (0, True)):
        evidence = Evidence()
        require_entropy(evidence, "noise", drawn, 100, 1000.0)
        assert bool(evidence.violated) == wrong


def test_what_is_no_number_violates_and_refutes() -> None:
    evidence = Evidence()
    evidence.at_most("x", math.nan, 1.0)
    evidence.tested("y", math.nan)
    evidence.tested("z", RISK)  # not below its share
    found = evidence.finding("check", "tried", "claimed", "all")
    assert (found.verdict, found.power) == (BROKEN, "all")
    assert len(evidence.violated) == 1 and len(evidence.improbable()) == 1
    json.dumps(dict(found.figures), allow_nan=False)


@pytest.mark.parametrize(
    "check",
    [exact_record, noise_record, exact_user, noise_user, exact_figure, noise_figure, account,
     sampling, choice],
)  # fmt: skip
def test_the_sound_system_holds(check: Check) -> None:
    (found,) = check(System(), QUICK, 0)
    assert (found.system, found.verdict) == (SOUND, HOLDS), found.measured
    assert found.power


@pytest.mark.parametrize(
    "variant",
    ["clip-per-layer", "user-clip-per-coordinate", "figure-own-count", "retries-uncharged",
     "rho-quartered"],
)  # fmt: skip
def test_a_planted_fault_is_caught(variant: str) -> None:
    """Those that exact checks catch at once; `privity-sim audit` tries all."""
    (check,) = TELLING[variant]
    (found,) = check(VARIANTS[variant], QUICK, 1)
    assert found.verdict == CAUGHT


def fixed_size(size: int, rate: float, random: Random) -> list[int]:
    return np.argsort(words(size, random))[: round(size * rate)].tolist()


def higher_rate(size: int, rate: float, random: Random) -> list[int]:
    return poisson_batch(size, 1.2 * rate, random)


@pytest.mark.parametrize("sampled", [fixed_size, higher_rate])
def test_other_batches_than_the_ledgers_are_caught(sampled: Callable[..., list[int]]) -> None:
    (found,) = sampling(fault_inside("other-batches", sampled=sampled), QUICK, 0)
    assert found.verdict == CAUGHT


def test_every_fault_has_a_check_that_must_catch_it() -> None:
    assert set(PLANTED) < set(TELLING) == set(VARIANTS)
    assert all(TELLING.values())
