"""ε once more, by the audit's own accountant, from what devices were seen to release.

A server asks for rounds and repeats them. Each answer must have exactly one row under each
guarantee, on disk before any noise is drawn; the noise in the answer must be that of the row; and
every ε that is stated (in the row, to the person's policy, by the ledger, by the server) must be no
less than the audit's own, at the δ of the settings, and within the budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.errors import RoundAbandonedError
from common.settings import MIN_COHORT, RecordLevel, Settings, UserLevel
from server.round.spending import spent_after
from simulations import arms
from simulations.evidence.audit.arithmetic import Noisy, epsilon_of, zcdp_epsilon
from simulations.evidence.audit.canaries import MODULES
from simulations.evidence.audit.evidence import Evidence, variance_caught
from simulations.evidence.audit.findings import Finding
from simulations.evidence.audit.noise_tests import test_size
from simulations.evidence.audit.probes import ProbeBackbone
from simulations.evidence.audit.scale import Scale
from simulations.evidence.audit.small_cohort import Person
from simulations.evidence.audit.system import System
from simulations.evidence.audit.witness import Asks, Row, Seen, Witness, claimed_noise

CHECK = "account of all releases"
REPORT: Any = arms  # by whose names a report is made
RUN = "audit/account"
ROUNDING = 1e-6  # relative, of a stated ε
SERVERS = 1e-3  # relative: σ is found to this precision, and the server's may be another


@dataclass(frozen=True, slots=True)
class Story:
    """What a server asks of a device under some settings."""

    name: str
    asks: Asks
    settings: Settings


BASE = Settings.of(
    model="tiny", modules=MODULES, layers=0, rank=8, users=MIN_COHORT, update_range=1.0
)
PLAIN: Asks = ((1, 0), (2, 0), (3, 0))
REPEATED: Asks = ((1, 0), (1, 1), (2, 0), (3, 0), (3, 1))
STORIES = (
    Story("Rényi", PLAIN, BASE.but(epsilon=2.0, accountant="rdp", sharing="fedsa")),
    Story(
        "both levels",
        REPEATED,
        BASE.but(epsilon=6.0, user_epsilon=2.0, user_delta=1e-6, evaluation_epsilon=1.0,
                accountant="rdp"),
    ),
    Story("user level", REPEATED, BASE.but(dp=False, user_epsilon=1.0, user_delta=1e-7)),
    Story("ε = 1, repeated", REPEATED, BASE.but(epsilon=1.0, evaluation_epsilon=0.3)),
    Story("five steps", PLAIN, BASE.but(epsilon=8.0, local_steps=5, delta=1e-6)),
    Story("sampled", PLAIN, BASE.but(epsilon=4.0, local_steps=3, sample_rate=0.3)),
)  # fmt: skip


def account(system: System, _scale: Scale, seed: int) -> list[Finding]:
    """Every story, attempt by attempt."""
    evidence, least = Evidence(system.name), math.inf
    for story in STORIES:
        if evidence.enough:
            break
        story = replace(story, settings=system.learning(story.settings))
        backbone = ProbeBackbone(story.settings)
        nothing = np.zeros(backbone.size)
        train = [backbone.probe(f"{n}", nothing) for n in range(2)]
        heldout = [backbone.probe("held out", nothing, 0.1)]
        witness = Witness(system.on(backbone), story.settings, [Person(train, heldout)], seed, RUN)
        least = min(least, _follow(evidence, system, story, witness))
    caught = variance_caught(backbone.shared.dimension, max(1, len(evidence.tests)))
    evidence.figures["least_epsilon_share"] = round(least, 4)
    return [
        evidence.finding(
            CHECK,
            f"{len(STORIES)} runs with repeated rounds, many steps, sampling, both levels; ε by "
            "the audit's own accountant from answers, rows and noise",
            "one row for each answer, before its noise; stated ε no less, and within the budget",
            f"exact: a row, 0.0001 % of ε (0.1 % of the server's); noise {caught:.0%} off in one "
            "release",
        )
    ]


def _follow(evidence: Evidence, system: System, story: Story, witness: Witness) -> float:
    """Ask, and hold every answer to its row; own ε over the stated one at the end."""
    settings, rows, rhos, share = story.settings, list[Row](), list[float](), 1.0
    for number, attempt in story.asks:
        try:
            noise = (
                system.plan_noise(settings.rounds, settings.user, rhos, number)
                if settings.user.epsilon
                else 0.0
            )
        except RoundAbandonedError:  # the server has nothing left to offer
            break
        asked_before = len(witness.asked)
        seen = witness.ask(number, attempt, noise)
        place = f"{story.name}, round {number}.{attempt}"
        if seen.refused:
            evidence.same(f"{place}: rows of a refusal", len(seen.rows) <= 2, True)
            continue
        rows += [dict(row) for row in seen.rows]
        _one_to_one(evidence, place, seen)
        rhos.append(_rho(evidence, place, seen) if settings.user.epsilon else math.inf)
        if settings.record.dp:
            _noise(evidence, place, settings, seen)
            rate = seen.row("record").get("sample_rate") or 0.0
            evidence.at_most(f"{place}: sampling rate, row's", settings.record.sample_rate, rate)
            own = _own_record(rows, settings.record)
            _stated(
                evidence,
                place,
                own,
                settings.record.epsilon,
                settings.record.delta,
                seen.row("record"),
            )
            told = [asked.record_epsilon for asked in witness.asked[asked_before:]]
            agreed = told[-1] if told else math.nan
            evidence.at_most(f"{place}: own ε, policy's", own * (1 - ROUNDING), agreed)
            share = own / float(seen.row("record").get("epsilon") or math.inf)
        if settings.user.epsilon:
            own = zcdp_epsilon(math.fsum(rhos), settings.user.delta)
            row, budget = seen.row("user"), settings.user.epsilon
            _stated(evidence, place, own, budget, settings.user.delta, row)
        _servers(evidence, place, settings, rows, rhos)
        _summed(evidence, place, settings.record, settings.user, witness, rows, rhos)
    return share


def _one_to_one(evidence: Evidence, place: str, seen: Seen) -> None:
    keys = [(r["guarantee"], r["run"], r["round"], r["attempt"]) for r in seen.rows]
    wanted = [(g, seen.terms.run, seen.number, seen.attempt) for g in ("record", "user")]
    evidence.same(f"{place}: rows", sorted(keys), wanted)
    evidence.same(f"{place}: noise before a row", seen.uncharged, ())


def _rho(evidence: Evidence, place: str, seen: Seen) -> float:
    """ρ of one sum: Δ² / 2σ², with the fewest honest members' shares."""
    terms = seen.terms
    rho = terms.levels**2 / (2 * (terms.least - terms.corrupt) * terms.noise**2)
    evidence.at_most(f"{place}: ρ", rho * (1 - ROUNDING), seen.row("user").get("rho") or 0.0)
    return rho


def _noise(evidence: Evidence, place: str, settings: Settings, seen: Seen) -> None:
    """The update is pure noise: is it that of the row?"""
    row = seen.row("record")
    unit = settings.training.learning_rate * settings.record.max_grad_norm
    unit /= settings.record.sample_rate * settings.rounds.examples
    std = (row.get("noise_multiplier") or 0.0) * math.sqrt(row.get("steps") or 0) * unit
    level = seen.terms.clip / seen.terms.levels
    if settings.user.epsilon:
        return  # the members' shares are beside it: `noise_record` tests the same without them
    update = seen.real[: len(seen.real) - bool(settings.evaluation.epsilon)]
    assert level < std or not std
    test_size(evidence, place, update[None] / max(std, 1e-300))


def _own_record(rows: Sequence[Row], record: RecordLevel) -> float:
    releases = [
        Noisy(noise, rate, times)
        for row in rows
        if row["guarantee"] == "record"
        for noise, rate, times in claimed_noise(row)
    ]
    return epsilon_of(releases, record.delta)


def _stated(
    evidence: Evidence, place: str, own: float, budget: float, delta: float, row: Row
) -> None:
    """The row states no less than the audit's own ε, at the δ of the settings."""
    stated = row.get("epsilon")
    stated = math.nan if stated is None else stated
    level = row.get("guarantee", "no row")
    evidence.at_most(f"{place}: own ε, {level} row's", own * (1 - ROUNDING), stated)
    evidence.at_most(f"{place}: {level} ε, budget", stated, budget * (1 + ROUNDING))
    evidence.same(f"{place}: {level} δ", row.get("delta"), delta)


def _summed(
    evidence: Evidence,
    place: str,
    record: RecordLevel,
    user: UserLevel,
    witness: Witness,
    rows: Sequence[Row],
    rhos: Sequence[float],
) -> None:
    """What the ledger says in sum, and what a report makes of it (`simulations.arms`)."""
    ledger = witness.devices[1].store.ledger
    if record.dp:
        own = _own_record(rows, record) * (1 - ROUNDING)
        reported = REPORT.epsilon(ledger.releases(), record.delta, record.accountant)
        evidence.at_most(f"{place}: own ε, report's", own, reported)
        spent = ledger.spent("record")
        evidence.at_most(f"{place}: own ε, ledger's", own, spent.epsilon if spent else math.nan)
    if user.epsilon:
        own = zcdp_epsilon(math.fsum(rhos), user.delta) * (1 - ROUNDING)
        reported = REPORT.user_epsilon(ledger.user_rhos(), user.delta)
        evidence.at_most(f"{place}: own user ε, report's", own, reported)
        spent = ledger.spent("user")
        evidence.at_most(
            f"{place}: own user ε, ledger's", own, spent.epsilon if spent else math.nan
        )


def _servers(
    evidence: Evidence, place: str, settings: Settings, rows: Sequence[Row], rhos: list[float]
) -> None:
    """What the server publishes holds for this device, which answered everything."""
    said = spent_after(settings, rhos)
    if settings.record.dp:
        assert said.record is not None
        own = _own_record(rows, settings.record)
        evidence.at_most(f"{place}: own ε, server's", own * (1 - SERVERS), said.record.epsilon)
        evidence.same(f"{place}: server's δ", said.record.delta, settings.record.delta)
    if settings.user.epsilon:
        assert said.user is not None
        own = zcdp_epsilon(math.fsum(rhos), settings.user.delta)
        evidence.at_most(f"{place}: own user ε, server's", own * (1 - SERVERS), said.user.epsilon)
        evidence.same(f"{place}: server's user δ", said.user.delta, settings.user.delta)
