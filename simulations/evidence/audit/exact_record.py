"""Record level, exact: by how much one example more or less moves what leaves a device.

Two worlds with the same randomness have the same noise, so their difference is what the example
moved. Its L2 norm must be at most C for each noisy step that the ledger names, in every attempt at
every round, whatever the example: far above the clip, at it and below, dense over all layers or in
one, against all others or with them, without any gradient, or with one that is no number. Whether
and with what error a device refuses must not depend on it either.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.settings import Settings
from common.tasks.task import Example
from simulations.evidence.audit.canaries import MODULES
from simulations.evidence.audit.evidence import Evidence
from simulations.evidence.audit.findings import Finding
from simulations.evidence.audit.people import examples_of, talk
from simulations.evidence.audit.probes import ProbeBackbone
from simulations.evidence.audit.scale import DELTA, Scale
from simulations.evidence.audit.small_cohort import Person
from simulations.evidence.audit.system import System
from simulations.evidence.audit.witness import Asks, Seen, Witness, asked

CHECK = "record level, one example more"
ASKS: Asks = ((1, 0), (1, 1), (2, 0), (3, 0))
ROUNDING = 2.0**-19  # float32 weights and sums, relative to the largest
EPSILON = (
    40.0  # little noise, so that rounding is far below C; the sensitivity does not depend on it
)
RUN = "audit/exact/record"


@dataclass(frozen=True, slots=True)
class Probing:
    """A system under some settings, whose model takes probes, and C in units of the update."""

    system: System
    settings: Settings
    backbone: ProbeBackbone

    @classmethod
    def of(cls, system: System, settings: Settings) -> Probing:
        """Load the model; the settings are those for the system's task."""
        settings = system.learning(settings)
        backbone = ProbeBackbone(settings)
        return cls(system.on(backbone), settings, backbone)

    @property
    def unit(self) -> float:
        """One clipped gradient in what one step adds to the update."""
        s = self.settings
        return (
            s.training.learning_rate
            * s.record.max_grad_norm
            / (s.record.sample_rate * s.rounds.examples)
        )

    def world(self, train: Sequence[Example], seed: int, asks: Asks = ASKS) -> list[Seen]:
        """What a device with these examples does."""
        return asked(Witness(self.system, self.settings, [Person(train)], seed, RUN), asks)


def exact_record(system: System, _scale: Scale, seed: int) -> list[Finding]:
    """Every kind of example, with every way to share and more than one step."""
    evidence, largest = Evidence(system.name), 0.0
    plans = (("ffa", 1), ("ffa", 3), ("fedsa", 2), ("lora", 1))
    for sharing, steps in plans:
        probing = Probing.of(system, settings_for(sharing, steps))
        for name, base, more in _pairs(probing, seed, full=steps == 1 and sharing == "ffa"):
            if evidence.enough:
                break
            worlds = probing.world(base, seed), probing.world([*base, *more], seed)
            where = f"{sharing}, {steps} steps, {name}"
            largest = max(largest, _compare(evidence, probing, where, *worlds))
        if sharing == "ffa" and steps == 1 and not evidence.enough:
            _every_number(evidence, probing, seed)
    evidence.figures["largest_shift_in_clips"] = round(largest, 5)
    return [
        evidence.finding(
            CHECK,
            "devices with and without one example, with the same noise: dense, sparse, opposed, "
            "without gradient, not finite; every attempt",
            "moves an update by C at most for each step in the ledger; no refusal depends on it",
            "exact: 1 % more than C",
        )
    ]


def _every_number(evidence: Evidence, probing: Probing, seed: int) -> None:
    """Examples without a gradient, one more each time: whatever counts them shows."""
    nothing = probing.backbone.probe("nothing", np.zeros(probing.backbone.size))
    numbers = range(probing.settings.rounds.examples + 1)
    worlds = [probing.world([nothing] * number, seed, ASKS[:1]) for number in numbers]
    for number, pair in enumerate(itertools.pairwise(worlds)):
        _compare(evidence, probing, f"{number} examples and one", *pair)


def settings_for(sharing: str, steps: int, **others: float) -> Settings:
    """Noise that is small beside C, and room for it in the range of a coordinate."""
    base = Settings.of(
        model="tiny",
        modules=MODULES,
        layers=0,
        rank=8,
        rounds=3,
        epsilon=EPSILON,
        delta=DELTA,
        accountant="rdp",
        examples=24,
        update_range=1.0,
        local_steps=steps,
        sharing=sharing,
    )
    return base.but(**others)


def moved(zero: Sequence[Seen], one: Sequence[Seen]) -> Iterator[NDArray[np.float64]]:
    """By how much each attempt differs, what stays on the device included."""
    before = [np.zeros_like(world[0].kept) for world in (zero, one)]
    for pair in zip(zero, one, strict=True):
        stays = [np.asarray(s.kept - b, np.float64) for s, b in zip(pair, before, strict=True)]
        before = [seen.kept for seen in pair]
        yield np.concatenate([pair[1].real - pair[0].real, stays[1] - stays[0]])


def _compare(
    evidence: Evidence,
    probing: Probing,
    where: str,
    zero: list[Seen],
    one: list[Seen],
) -> float:
    """Add the facts of one pair of worlds; the largest shift in units of the claim."""
    largest = 0.0
    for without, holding, shift in zip(zero, one, moved(zero, one), strict=True):
        place = f"{where}, round {holding.number}.{holding.attempt}"
        evidence.same(f"{place}: refused with", holding.refused, without.refused)
        steps = holding.row("record").get("steps") or 0
        evidence.same(f"{place}: answered", bool(steps), not holding.refused)
        level = holding.terms.clip / holding.terms.levels
        values = float(np.abs(holding.real).max(initial=0.0))
        room = math.sqrt(shift.size) * (level + ROUNDING * values)
        norm = float(np.linalg.norm(shift))
        claimed = steps * probing.unit
        evidence.at_most(f"{place}: moves it by C times", norm / probing.unit,
                         (claimed + room) / probing.unit)  # fmt: skip
        largest = max(largest, norm / claimed if claimed else 0.0)
    return largest


def _pairs(
    probing: Probing, seed: int, *, full: bool
) -> Iterator[tuple[str, list[Example], list[Example]]]:
    """A name, the examples of one world, and the one more of the other."""
    backbone, clip = probing.backbone, probing.settings.record.max_grad_norm
    chance = np.random.default_rng(seed)
    size, count = backbone.size, iter(range(10**6))

    def probe(vector: NDArray[np.float64]) -> Example:
        return backbone.probe(f"{next(count)}", vector)

    def dense(strength: float) -> NDArray[np.float64]:
        vector = chance.normal(size=size)
        return np.asarray(vector * (strength * clip / np.linalg.norm(vector)))

    one_sign = np.full(size, 100 * clip / math.sqrt(size))
    yield "dense, the first example", [], [probe(dense(100))]
    yield "dense, of many", [probe(dense(100)) for _ in range(3)], [probe(dense(1e4))]
    yield "opposed", [probe(one_sign) for _ in range(2)], [probe(-100 * one_sign)]
    yield "no gradient", [probe(one_sign) for _ in range(3)], [probe(0 * one_sign)]
    some = [probe(one_sign) for _ in range(3)]  # which one that takes all others with it would move
    yield "not a number", some, [probe(one_sign * np.nan)]
    if not full:
        return
    for strength in (0.5, 0.999, 1.001, 3.0):
        yield f"{strength:g} C", [probe(dense(1)) for _ in range(2)], [probe(dense(strength))]
    alone = np.zeros(size)
    alone[size // 3] = 1e3 * clip
    yield "one coordinate", [probe(one_sign)], [probe(alone)]
    part = np.where(np.arange(size) < size // 14, one_sign, 0)
    yield "one layer", [probe(one_sign)], [probe(part)]
    yield "infinite", some, [probe(np.where(np.arange(size) % 2, np.inf, 1.0))]
    yield "beyond any number", some, [probe(1e36 * one_sign)]
    many = [probe(one_sign) for _ in range(20)]
    yield "beyond a micro-batch", many, [probe(-one_sign)]
    again = probe(one_sign)
    yield "the same again", [again, again], [again]
    person = examples_of(talk(seed, "exact/person"), 6, probing.settings.task)
    yield "a real one", person[:5], person[5:]
    yield "its copy", person[:5], person[4:5]
    yield "a real one and none", [], person[:1]
