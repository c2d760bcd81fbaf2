"""User level against a server that repeats rounds: what the smallest cohort's devices send.

One person's records make an update of one coordinate, as long as can be; the other honest person
has none. The noise of the coordinates is meant to be independent and equal, whatever the data, so
each coordinate of the sum without that person's records is a run of one world, and, moved by what
the records add, of the other: thousands of each in every sum. The server offers in each attempt
the noise of a run that begins with it and ends with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.rounds.round_terms import graph_for
from common.secagg.parameters import honest_in_sum
from common.settings import MIN_COHORT, Settings, SumSettings
from server.round.noise_plan import plan_noise
from simulations.evidence.audit.bound import CONFIDENCE, two_worlds_epsilon
from simulations.evidence.audit.canaries import MODULES, CanaryBackbone, canary
from simulations.evidence.audit.findings import Finding, judged
from simulations.evidence.audit.scale import CLAIMED_EPSILON, DELTA, STRENGTH, Scale
from simulations.evidence.audit.small_cohort import Person, SmallCohort
from simulations.evidence.audit.system import System

CHECK = "user level, rounds repeated"
TAIL = 2.0  # standard deviations of the noise that is claimed: where a small shift tells most
NOISE_CONFIDENCE = 0.999  # of its measured size; the bounds on ε share the rest of the risk
ROUNDING = 1e-6  # relative, of a shift
RANK = 32  # 8,192 coordinates


def device_user(system: System, scale: Scale, seed: int) -> list[Finding]:
    """Bound ε of a person, and measure the noise, in all that a server can get out of devices."""
    settings = system.learning(_settings())
    backbone = CanaryBackbone(settings, STRENGTH * settings.user.clip)
    offered = plan_noise(settings.rounds, settings.user, (), 1)
    without, holding = (
        _sums(system.on(backbone), settings, Person(train), seed, offered, scale.rounds)
        for train in ((), (canary(0),))
    )
    shift = float(np.linalg.norm((holding - without).sum(axis=0)))  # the noise is the same
    noise = without.sum(axis=0)
    tried = (
        f"{_honest(settings.sum)} honest of {MIN_COHORT} people; one round, asked for again "
        f"and again: {len(without)} of {scale.rounds} answered; "
        "guess from a coordinate who took part"
    )
    return [_finding(system.name, tried, noise, len(without), offered, shift)]


def noise_size(noise: NDArray[np.float64], std: float) -> tuple[float, float]:
    """The variance about 0 in units of std², and the upper end of its interval (χ², one-sided)."""
    from scipy.stats import chi2

    total = float(np.square(noise / std).sum())
    return total / noise.size, total / float(chi2.ppf(1 - NOISE_CONFIDENCE, noise.size))


def shifted_epsilon(noise: NDArray[np.float64], shift: float, thresholds: Sequence[float]) -> float:
    """The best bound of several thresholds between noise and noise + shift, Bonferroni-corrected.

    Args:
        noise: Independent draws, each a run of either world: [runs].
        thresholds: Fixed before the noise was seen.
    """
    each = 1 - (NOISE_CONFIDENCE - CONFIDENCE) / len(thresholds)
    return max(
        two_worlds_epsilon(
            int((noise > t).sum()), int((noise + shift <= t).sum()), noise.size, DELTA, each
        )
        for t in thresholds
    )


def _finding(
    system: str, tried: str, noise: NDArray[np.float64], rounds: int, offered: float, shift: float
) -> Finding:
    claimed = offered * math.sqrt(rounds)
    bound = shifted_epsilon(noise, shift, (shift / 2, TAIL * claimed))
    share, most = noise_size(noise, claimed)
    refuted = bound > CLAIMED_EPSILON or most < 1 or not shift / rounds <= 1 + ROUNDING
    return Finding(
        CHECK,
        system,
        tried,
        f"ε ≥ {bound:.2f} ({CONFIDENCE:.0%}); variance of the noise {share:.0%} of what is claimed "
        f"(at most {most:.0%}, {NOISE_CONFIDENCE:.1%}); the person moves a sum by "
        f"{shift / rounds:.1f} clip norms",
        f"ε ≤ {CLAIMED_EPSILON:g} at δ = {DELTA:g}; no less noise; moves it by 1 at most",
        judged(system, refuted=refuted),
        {
            "epsilon_lower": round(bound, 3),
            "epsilon_claimed": CLAIMED_EPSILON,
            "coordinates": noise.size,
            "rounds_answered": rounds,
            "noise_variance_share": round(share, 4),
            "noise_variance_share_high": round(most, 4),
            "shift_in_clips": round(shift / rounds, 3),
        },
    )


def _sums(
    system: System, settings: Settings, person: Person, seed: int, offered: float, most: int
) -> NDArray[np.float64]:
    """The sums of one world, in units of the clip norm: [answered, dimension].

    There are as many honest members as the claim counts on.
    """
    honest = [person, *[Person()] * (_honest(settings.sum) - 1)]
    cohort = SmallCohort(system, settings, honest, seed, "audit/device/user")
    return np.stack(list(cohort.sums(most, offered))) / cohort.terms(1, 0, offered).levels


def _honest(sums: SumSettings) -> int:
    graph = graph_for(sums, MIN_COHORT)
    return honest_in_sum(
        graph.cohort, graph.least, graph.corrupt, graph.neighbours, graph.threshold
    )


def _settings() -> Settings:
    """One round is planned. A high rank gives the sum many coordinates; all else is the default."""
    return Settings.of(
        model="tiny",
        modules=MODULES,
        layers=0,
        rank=RANK,
        users=MIN_COHORT,
        rounds=1,
        dp=False,
        user_epsilon=CLAIMED_EPSILON,
        user_delta=DELTA,
    )
