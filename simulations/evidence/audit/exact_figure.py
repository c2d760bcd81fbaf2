"""Evaluation, exact: by how much one held-out answer moves a figure, and what its noise is.

Through all five legs, with the same noise in both worlds: one answer more moves the figure by R / K
at most where the ledger has charged an evaluation, and by nothing where it has not. The noise is
then drawn many times over, with answers and without.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from client.federation import gain as on_device
from common.adapter.weights import Shared
from common.privacy import evaluation
from common.settings import RoundSettings, Settings
from common.tasks.task import Example
from simulations.evidence.audit.evidence import Evidence, variance_caught
from simulations.evidence.audit.findings import Finding
from simulations.evidence.audit.noise_tests import test_noise
from simulations.evidence.audit.probes import ProbeBackbone
from simulations.evidence.audit.scale import DELTA, Scale
from simulations.evidence.audit.small_cohort import Person
from simulations.evidence.audit.system import System, stream
from simulations.evidence.audit.witness import Asks, Seen, Witness, asked

SHIFT, NOISE = "evaluation, one answer more", "evaluation, noise of every figure"
ASKS: Asks = ((1, 0), (1, 1), (2, 0), (2, 1))  # two are planned; the third has none left
RUN = "audit/exact/figure"
EXAMPLES, RANGE = 16, 2.0
HELDOUT_SHARE = 0.2
DRAWS, WITH_ANSWERS = 8000, 500
MOST_EQUAL = 8  # figures of 8,000 that are equal to another, in float32; below 1e-9 by chance


def exact_figure(system: System, _scale: Scale, seed: int) -> list[Finding]:
    """Gains on both sides of the range, at it, none, not finite; few answers and many."""
    evidence, settings, largest = Evidence(system.name), system.learning(figure_settings()), 0.0
    backbone = ProbeBackbone(settings)
    system = system.on(backbone)
    for name, base, more in _pairs(most_counted(settings.rounds)):
        if evidence.enough:
            break
        worlds = [
            asked(Witness(system, settings, [Person((), _answers(backbone, g))], seed, RUN), ASKS)
            for g in (base, [*base, *more])
        ]
        for zero, one in zip(*worlds, strict=True):
            largest = max(largest, _compare(evidence, settings, name, zero, one))
        figures = [float(one.sent[-1]) for one in worlds[1] if not one.refused]
        evidence.same(f"{name}: different figures", len(set(figures)), len(figures))
    _personal(evidence, system, settings, backbone, seed)
    evidence.figures["largest_shift_in_claims"] = round(largest, 5)
    return [
        evidence.finding(
            SHIFT,
            "devices with and without one held-out answer, with the same noise: gains beyond the "
            "range on both sides, at it, within, not finite; 0 answers to K; another personal "
            "adapter",
            "moves the figure by R / K at most where a row charges it, else by nothing",
            "exact: 0.1 % of R / K",
        )
    ]


def noise_figure(system: System, _scale: Scale, seed: int) -> list[Finding]:
    """χ² and shape of many figures, with answers and without any."""
    evidence, settings = Evidence(system.name), system.learning(figure_settings())
    backbone = ProbeBackbone(settings)
    published = Shared(backbone.shared, backbone.shared.initial(backbone.shared.sent))
    answers = _answers(backbone, [0.5, -0.25])
    system = system.on(backbone)
    seen = Witness(system, settings, [Person((), answers)], seed, RUN).ask(1, 0)
    drawn = [
        _figures(system, settings, published, given, seed, name, count)
        for name, given, count in (("none", None, DRAWS), ("some", answers, WITH_ANSWERS))
    ]
    sigma = _charged(seen)
    claimed = sigma * settings.evaluation.range / most_counted(settings.rounds)
    gained = 0.25 / most_counted(settings.rounds)
    for name, figures, mean in (("no answers", drawn[0], 0.0), ("answers", drawn[1], gained)):
        test_noise(evidence, name, (figures[None] - mean) / max(claimed, 1e-300))
    equal = DRAWS - len(set(drawn[0].tolist()))
    evidence.at_most("equal figures", equal, MOST_EQUAL)
    caught = [variance_caught(n, len(evidence.tests)) for n in (DRAWS, WITH_ANSWERS)]
    evidence.figures |= {"values": DRAWS, "variance_caught": round(caught[0], 4)}
    return [
        evidence.finding(
            NOISE,
            f"{DRAWS:,} figures without answers, {WITH_ANSWERS} with two",
            "N(mean, σ²R²/K²) with the σ that the ledger charges, each drawn anew",
            f"a variance {caught[0]:.0%} off without answers, {caught[1]:.0%} with; a seed of 16 "
            "bits or fewer",
        )
    ]


def figure_settings() -> Settings:
    """Two planned evaluations."""
    return Settings.of(
        model="tiny",
        rounds=2,
        epsilon=8.0,
        evaluation_epsilon=2.0,
        evaluation_range=RANGE,
        delta=DELTA,
        accountant="rdp",
        examples=EXAMPLES,
    )


def most_counted(rounds: RoundSettings) -> int:
    """K: of `examples` that are 80 %, the other 20 %, each rounded up."""
    return math.ceil(math.ceil(rounds.examples / (1 - HELDOUT_SHARE)) * HELDOUT_SHARE)


def _compare(evidence: Evidence, settings: Settings, name: str, zero: Seen, one: Seen) -> float:
    place = f"{name}, round {one.number}.{one.attempt}"
    evidence.same(f"{place}: refused with", one.refused, zero.refused)
    rest = int(np.abs(one.sent[:-1] - zero.sent[:-1]).max())
    evidence.same(f"{place}: the update moves by", rest, 0)
    level = one.terms.clip / one.terms.levels * evaluation.nats(settings)
    moved = abs(int(one.sent[-1]) - int(zero.sent[-1])) * level
    claimed = settings.evaluation.range / most_counted(settings.rounds)
    charged = claimed if _charged(one) else 0.0
    evidence.at_most(f"{place}: moves it by R / K times", moved / claimed,
                     (charged + 2 * level) / claimed)  # fmt: skip
    evidence.same(f"{place}: noise before a row", one.uncharged, ())
    return moved / claimed


def _charged(seen: Seen) -> float:
    """σ of the evaluation in the record-level row; 0 where there is none."""
    return float(seen.row("record").get("evaluation_noise") or 0.0)


def _pairs(most: int) -> Iterator[tuple[str, list[float], list[float]]]:
    """A name, the gains in one world, and that of the one more."""
    yield "first, far above", [], [1e3]
    yield "first, far below", [], [-1e3]
    yield "above against below", [-1e3] * (most - 1), [1e3]
    yield "below against above", [1e3] * (most - 1), [-1e3]
    yield "at the range", [0.1], [RANGE]
    yield "within", [0.5, -0.5], [0.3 * RANGE]
    yield "no gain", [1e3], [0.0]
    yield "not a number", [0.3], [math.nan]
    yield "infinite", [0.3], [math.inf]
    yield "endlessly bad", [1e3], [-math.inf]


def _answers(backbone: ProbeBackbone, gains: Sequence[float]) -> list[Example]:
    none = np.zeros(backbone.size)
    return [backbone.probe(f"{n}: {gain}", none, gain) for n, gain in enumerate(gains)]


def _personal(
    evidence: Evidence, system: System, settings: Settings, backbone: ProbeBackbone, seed: int
) -> None:
    """Another personal adapter changes not one bit of what leaves."""
    chance = np.random.default_rng(seed)
    vector = chance.normal(size=backbone.size)
    person = Person([backbone.probe("vector", vector)], _answers(backbone, [0.5, -0.1]))
    sent = []
    for _ in range(2):
        backbone.set_personal(chance)
        sent.append(Witness(system, settings, [person], seed, RUN).ask(1, 0).sent)
    different = int((sent[0] != sent[1]).sum())
    evidence.same("coordinates that another personal adapter changes", different, 0)


def _figures(
    system: System,
    settings: Settings,
    published: Shared,
    answers: Sequence[Example] | None,
    seed: int,
    name: str,
    count: int,
) -> NDArray[np.float64]:
    """What a device would send beside its update, in nats: [count]."""
    random = stream(seed, f"{RUN}/{name}")
    given = system.steps, settings, published, None, answers, random
    sent = [on_device.coordinate(*given) for _ in range(count)]
    return np.concatenate(sent).astype(np.float64) * evaluation.nats(settings)
