"""User level, exact: how long a person's contribution is, and what its noise is.

A device without records contributes noise alone. With the same randomness, what a person's records
add are integers whose L2 norm must be at most the levels of the terms, figure included: checked in
integers, without any rounding. ρ is recomputed from these and compared with the ledger.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from client.federation.contribution import summand
from common.rounds.round_terms import round_terms
from common.secagg import RoundTerms
from common.settings import MIN_COHORT, Settings, UserLevel
from server.round.noise_plan import plan_noise
from simulations.evidence.audit.canaries import MODULES
from simulations.evidence.audit.evidence import Evidence, variance_caught
from simulations.evidence.audit.findings import Finding
from simulations.evidence.audit.noise_tests import require_entropy, test_noise, test_repeats
from simulations.evidence.audit.one_device import Streams, new_device
from simulations.evidence.audit.probes import ProbeBackbone
from simulations.evidence.audit.scale import DELTA, Scale
from simulations.evidence.audit.small_cohort import Person
from simulations.evidence.audit.system import System
from simulations.evidence.audit.witness import COUNT, Asks, Seen, Witness, asked

SHIFT, NOISE = "user level, one person more", "user level, noise of every share"
ASKS: Asks = ((1, 0), (1, 1), (2, 0))
RUN = "audit/exact/user"
QUIET = ("/noise", "evaluation", COUNT)  # streams that are silent in the reference world
DRAWS = 1500
RANK, COORDINATES = 16, 4


def exact_user(system: System, _scale: Scale, seed: int) -> list[Finding]:
    """Every kind of update, with an evaluation, and with record-level noise beside it."""
    evidence, longest = Evidence(system.name), 0.0
    for dp, scored in ((False, 0.0), (False, 2.0), (True, 2.0)):
        settings = system.learning(_settings(dp=dp, evaluation=scored))
        backbone = ProbeBackbone(settings)
        noise = plan_noise(settings.rounds, settings.user, (), 1)
        probed = system.on(backbone)
        silent = Witness(probed, settings, [Person()], seed, RUN, silent=QUIET)
        reference = asked(silent, ASKS, noise)
        for name, person in _people(backbone, settings.user, seed, few=bool(scored)):
            if evidence.enough:
                break
            world = asked(Witness(probed, settings, [person], seed, RUN), ASKS, noise)
            for zero, one in zip(reference, world, strict=True):
                longest = max(longest, _compare(evidence, f"{name}, {dp:d} {scored:g}", zero, one))
    evidence.figures["largest_shift_in_clips"] = round(longest, 6)
    return [
        evidence.finding(
            SHIFT,
            "devices with and without all records, with the same noise: updates far beyond the "
            "clip, at it, dense, sparse, not finite; figures on both sides",
            "integers with an L2 norm of the terms' levels at most; ρ and rows as the terms say",
            "exact: one level in the norm",
        )
    ]


def noise_user(system: System, _scale: Scale, seed: int) -> list[Finding]:
    """χ² on size, shape, correlations, between devices too, repeated values, randomness drawn."""
    evidence = Evidence(system.name)
    settings = system.learning(_settings(dp=False, evaluation=0.0))
    backbone, noise = ProbeBackbone(settings), plan_noise(settings.rounds, settings.user, (), 1)
    probed = system.on(backbone)
    worlds = [
        asked(Witness(probed, settings, [Person()] * people, seed, RUN), ASKS, noise)
        for people in (1, 2)
    ]
    terms = [_tiny_terms(settings, attempt) for attempt in range(DRAWS)]
    different = len({_small_share(system, settings.user, one, seed) for one in terms})
    first = np.stack([one.sent for one in worlds[0]])
    second = np.stack([two.sent for two in worlds[1]]) - first  # the other device's alone
    std = worlds[0][0].terms.noise
    for one in worlds[0]:
        drawn = sum(size for purpose, size in one.drawn.items() if "noise" in purpose)
        place = f"round {one.number}.{one.attempt}"
        require_entropy(evidence, place, drawn, one.sent.size, std)
        test_repeats(evidence, place, one.sent, std)
    test_noise(evidence, "two devices", np.concatenate([first, second]) / std)
    evidence.same(f"different shares of {DRAWS}", different, DRAWS)
    count = 2 * first.size
    caught, each = (variance_caught(n, len(evidence.tests)) for n in (count, first[0].size))
    evidence.figures |= {"values": count, "variance_caught": round(caught, 4)}
    return [
        evidence.finding(
            NOISE,
            f"{count:,} values of two devices' shares in {len(ASKS)} attempts, and {DRAWS:,} "
            "small ones",
            "independent, with the standard deviation of the terms, all of it drawn anew",
            f"a variance {caught:.0%} off in all, {each:.0%} in one share; correlation "
            f"{each / math.sqrt(2):.2f} of two shares; seeds of 16 bits, and any seed shorter than "
            "the noise's own entropy if the device's bytes make it",
        )
    ]


def _compare(evidence: Evidence, name: str, zero: Seen, one: Seen) -> float:
    place = f"{name}, round {one.number}.{one.attempt}"
    evidence.same(f"{place}: refused with", one.refused, zero.refused)
    if one.refused:
        return 0.0
    added = (one.sent - zero.sent).astype(object)
    squares = int((added * added).sum())
    levels = one.terms.levels
    norm = math.sqrt(squares) / levels
    evidence.at_most(f"{place}: norm² in levels²", squares, levels**2)
    _charged(evidence, place, one)
    return norm


def _charged(evidence: Evidence, place: str, one: Seen) -> None:
    """The row's ρ covers Δ² / 2σ² with the noise of the fewest honest members."""
    honest = one.terms.least - one.terms.corrupt
    rho = one.terms.levels**2 / (2 * honest * one.terms.noise**2)
    evidence.at_most(f"{place}: ρ", rho * (1 - 1e-9), one.row("user").get("rho") or 0.0)
    evidence.same(f"{place}: noise before a row", one.uncharged, ())


def _people(
    backbone: ProbeBackbone, user: UserLevel, seed: int, *, few: bool
) -> Iterator[tuple[str, Person]]:
    """A name and what one person holds. An update is minus the mean gradient."""
    chance, count = np.random.default_rng(seed), iter(range(10**6))
    size, clip = backbone.size, user.clip

    def person(vector: Any, *gains: float) -> Person:
        heldout = [backbone.probe(f"{next(count)}", np.zeros(size), gain) for gain in gains]
        return Person([backbone.probe(f"{next(count)}", vector)], heldout)

    def dense(strength: float) -> Any:
        vector = chance.normal(size=size)
        return vector * (strength * clip / np.linalg.norm(vector))

    flat = np.full(size, clip / math.sqrt(size))
    yield "dense, gains", person(dense(1e4), 1e3, 1e3)
    yield "dense, losses", person(dense(30), -1e3, -1e3)
    yield "flat", person(50 * flat, 1e3)
    yield "not a number", person(flat * np.nan, -1e3)
    if few:
        return
    for strength in (0.5, 0.999, 1.0, 1.001, 1.5, 3.0):
        yield f"{strength:g} clips", person(dense(strength), 1e3)
    yield "one coordinate", person(np.where(np.arange(size) == 7, 5 * clip, 0), -1e3)
    yield "decaying", person(9 * clip * 0.99 ** np.arange(size))
    yield "infinite", person(np.where(np.arange(size) % 2, np.inf, 1.0), 1e3)
    yield "a figure alone", Person((), person(flat, 1e3, 1e3, 1e3).heldout)


def _settings(*, dp: bool, evaluation: float) -> Settings:
    return Settings.of(
        model="tiny",
        modules=MODULES,
        layers=0,
        rank=RANK,
        users=MIN_COHORT,
        rounds=3,
        dp=dp,
        epsilon=40.0,
        delta=DELTA,
        accountant="rdp",
        examples=8,
        user_epsilon=20.0,
        user_delta=DELTA,
        evaluation_epsilon=evaluation,
    )


def _tiny_terms(settings: Settings, attempt: int) -> RoundTerms:
    return round_terms(settings, COORDINATES, RUN, 1, attempt, MIN_COHORT, 1.0)


def _small_share(system: System, user: UserLevel, terms: RoundTerms, seed: int) -> bytes:
    """A share of the noise in a few coordinates."""
    device = new_device(system, Streams(seed, RUN))
    none, figure = np.zeros(COORDINATES, dtype=np.float32), np.zeros(0, dtype=np.float32)
    return summand(device, user, terms, none, figure).tobytes()
