"""User level, one run: each canary is a person whose whole update is one coordinate.

The attacker is the server with everybody who may collude: of each sum it sees what the honest
members contribute when as many others as can have dropped out, or taken their noise back. There
are exactly as many canaries as honest members in the smallest sum that the server can learn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from client.federation.contribution import summand
from common.rounds.round_terms import graph_for, round_terms
from common.secagg import RoundTerms, from_ring, to_ring
from common.secagg.parameters import honest_in_sum
from common.settings import RoundSettings, Settings, SumSettings, UserLevel
from simulations.evidence.audit.findings import Finding
from simulations.evidence.audit.one_device import OneStream, new_device
from simulations.evidence.audit.one_run import one_run_finding
from simulations.evidence.audit.scale import CLAIMED_EPSILON, DELTA, STRENGTH, Scale
from simulations.evidence.audit.system import System, coins, stream

CHECK = "user level, one run"


def user_level(system: System, scale: Scale, seed: int) -> list[Finding]:
    """Bound ε of everything that one person contributes over a whole run."""
    settings = system.learning(_settings(scale))
    people = _honest(settings.sum, settings.rounds)
    included = coins(people, stream(seed, "user/coins"))
    scores, spent = np.zeros(people), list[float]()
    for number in range(1, scale.user_rounds + 1):
        noise = system.plan_noise(settings.rounds, settings.user, spent, number)
        terms = round_terms(settings, people, "audit", number, 0, scale.cohort, noise)
        spent.append(system.user_rho(terms))
        total = honest_sum(system, settings.user, terms, included, seed)
        scores += total * (terms.clip / terms.levels)
    tried = (
        f"{people:,} people of {scale.cohort:,}, each with a coordinate of their own, "
        f"{scale.user_rounds} rounds; guess who took part from the sums"
    )
    return [one_run_finding(CHECK, system.name, tried, scores, included)]


def honest_sum(
    system: System, user: UserLevel, terms: RoundTerms, included: NDArray[np.bool_], seed: int
) -> NDArray[np.int64]:
    """The honest members' part of a round's sum, as the server decodes it: [people].

    Who is not included sends the zero vector with noise: that is the neighbouring data set.
    """
    random = stream(seed, f"user/noise/{terms.round}")
    device, figure = new_device(system, OneStream(random)), np.zeros(0, dtype=np.float32)
    total = np.zeros(terms.dimension, dtype=np.uint32)
    for person, present in enumerate(included):
        update = np.zeros(terms.dimension, dtype=np.float32)
        update[person] = STRENGTH * terms.clip if present else 0.0
        sent = summand(device, user, terms, update, figure)
        total += to_ring(sent, terms.bits)
    return from_ring(total & np.uint32(2**terms.bits - 1), terms.bits)


def _settings(scale: Scale) -> Settings:
    return Settings.of(
        model="tiny",
        users=scale.cohort,
        rounds=scale.user_rounds,
        dp=False,
        user_epsilon=CLAIMED_EPSILON,
        user_delta=DELTA,
    )


def _honest(sums: SumSettings, rounds: RoundSettings) -> int:
    graph = graph_for(sums, rounds.users)
    return honest_in_sum(
        graph.cohort, graph.least, graph.corrupt, graph.neighbours, graph.threshold
    )
