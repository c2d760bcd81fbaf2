"""The terms of a round, from the run's settings: the server offers them, a device checks them."""

from __future__ import annotations

from dataclasses import astuple
from math import log2, sqrt

from common.errors import RoundAbandonedError
from common.privacy.evaluation import coordinates, joint_clip
from common.privacy.user_level import rho
from common.secagg import RoundTerms, levels_for, levels_with_noise
from common.secagg.parameters import (
    MOST_DRAWS,
    Graph,
    abort_chance,
    choose,
    honest_in_sum,
    privacy_failure,
)
from common.settings import MIN_COHORT, MOST_COHORT, Settings, SumSettings


def graph_for(sums: SumSettings, cohort: int) -> Graph:
    """Holders, threshold and floors for a cohort of this size.

    Raises:
        RoundAbandonedError: When it is too small or too large for a secure sum.
        InputError: When no graph tolerates what the settings ask for.
    """
    if cohort < MIN_COHORT:
        raise RoundAbandonedError(f"a cohort of {cohort} is below the least of {MIN_COHORT}.")
    if cohort > MOST_COHORT:
        problem = f"a cohort of {cohort} is above the most of {MOST_COHORT:,}."
        raise RoundAbandonedError(problem, "Draw fewer: lower `cohort` in the settings.")
    return choose(cohort, corrupt=sums.tolerated_corrupt, losses=sums.tolerated_losses)


def failures(graph: Graph) -> tuple[float, float]:
    """Base-2 logarithms: that colluders expose anybody, that tolerable losses abandon a round.

    The first is for a round with as many attempts as devices allow.
    """
    exposed = min(0.0, privacy_failure(*astuple(graph)) + log2(MOST_DRAWS))
    return exposed, abort_chance(graph.cohort, graph.least, graph.neighbours, graph.threshold)


def round_terms(
    settings: Settings,
    dimension: int,
    run: str,
    number: int,
    attempt: int,
    cohort: int,
    noise_multiplier: float = 0.0,
) -> RoundTerms:
    """Terms for one attempt of round `number` with `cohort` members.

    Args:
        dimension: Of the update; an evaluation adds its own coordinate.
        noise_multiplier: User-level noise: the standard deviation of the sum's noise over the clip
            norm, carried by the honest members of the smallest sum that the server can learn.

    Raises:
        RoundAbandonedError: When so few were drawn that the round cannot finish.
        InputError: When the noise does not fit the modulus.
    """
    graph = graph_for(settings.sum, cohort)
    dimension += coordinates(settings.evaluation)
    share = noise_multiplier / sqrt(_honest(graph))
    bits = settings.sum.modulus_bits
    levels = (
        levels_with_noise(cohort, bits, dimension, share) if share else levels_for(cohort, bits)
    )
    terms = RoundTerms(
        run=run,
        round=number,
        attempt=attempt,
        seed=settings.rounds.seed,
        dimension=dimension,
        clip=joint_clip(settings.user, settings.evaluation) if share else settings.sum.update_range,
        bits=bits,
        levels=levels,
        noise=share * levels,
        cohort=cohort,
        least=graph.least,
        corrupt=graph.corrupt,
        neighbours=graph.neighbours,
        threshold=graph.threshold,
        colluders=graph.colluders,
        training=settings.digest(),
    )
    terms.validate()
    return terms


def noise_multiplier(terms: RoundTerms) -> float:
    """The multiplier that the terms' noise amounts to; 0 without user-level noise."""
    return terms.noise * sqrt(_honest(terms)) / terms.levels


def user_rho(terms: RoundTerms) -> float:
    """What a round with user-level noise costs each person who takes part, as zCDP ρ."""
    return rho(terms.levels, terms.noise, _honest(terms), terms.dimension)


def _honest(who: Graph | RoundTerms) -> int:
    return honest_in_sum(who.cohort, who.least, who.corrupt, who.neighbours, who.threshold)
