"""Record level: what one example, or one message, more or less changes in the choice of examples.

ε is about one example of what a release was trained on. It covers an archive only if one example
more leaves everybody else where they were, given the noisy number of examples; and that number must
be as noisy as the ledger says.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from common.settings import Settings
from common.tasks import task_of
from common.tasks.task import Example, Task
from simulations.evidence.audit.chosen import chosen
from simulations.evidence.audit.evidence import Evidence
from simulations.evidence.audit.exact_record import Probing, settings_for
from simulations.evidence.audit.findings import Finding
from simulations.evidence.audit.people import talk, vocabulary
from simulations.evidence.audit.probes import Probe
from simulations.evidence.audit.scale import STRENGTH, Scale
from simulations.evidence.audit.small_cohort import Person
from simulations.evidence.audit.system import System
from simulations.evidence.audit.witness import Witness, asked

CHECK = "record level, choice of examples"
ARCHIVES, LIMIT = 80, 12
EXAMPLE_EDITS = 1  # one example changes nothing but itself
MESSAGE_EDITS = 2  # one message turns at most one example into another
HELD, WINDOW, ROUNDS, EPSILON = 400, 100, 12, 4.0
ROOM = 0.5  # of the claimed variance of the window's size, for the spacing of the examples in it
RUN = "audit/sets"
T = TypeVar("T")


def choice(system: System, _scale: Scale, seed: int) -> list[Finding]:
    """Archives with and without one example, one message; and how noisy the window is."""
    evidence, chance = Evidence(system.name), talk(seed, "sets")
    task = task_of(system.learning(Settings.of(model="tiny")).task)
    most = MESSAGE_EDITS if task.overlapping else EXAMPLE_EDITS
    for number in range(ARCHIVES):
        _archive(evidence, task, most, chance, number)
    _window(evidence, system, seed)
    return [
        evidence.finding(
            CHECK,
            f"{ARCHIVES} archives with and without one example, one record, given the noisy "
            f"number of examples; {ROUNDS} windows of a device that holds {HELD}",
            f"{EXAMPLE_EDITS} example comes or goes with an example, {most} with a record"
            "; the number is as noisy as the ledger says",
            "exact for these archives; a quarter of the noise of the number",
        )
    ]


def _archive(
    evidence: Evidence, task: Task, of_record: int, chance: random.Random, number: int
) -> None:
    archive = task.archive(chance, vocabulary(), chance.choice((3, 8, 30, 90)))
    key, found = chance.randbytes(32), task.examples(archive)
    count = len(found) + chance.gauss(0, 5)
    for name, most, other in (
        ("example", EXAMPLE_EDITS, _without(found, chance)),
        ("record", of_record, task.examples(_without(archive, chance))),
    ):
        sets = zip(chosen(found, key, LIMIT, count), chosen(other, key, LIMIT, count), strict=True)
        moved = sum(_edits(one, two) for one, two in sets)
        evidence.at_most(f"archive {number}: answers moved by one {name}", moved, most)


def _window(evidence: Evidence, system: System, seed: int) -> None:
    """Who is in each round's window, by the difference that gradients make under the same noise."""
    settings = settings_for("ffa", 1, rounds=ROUNDS, examples=WINDOW, epsilon=EPSILON)
    probing = Probing.of(system, settings)
    settings = probing.settings
    backbone, train, none = probing.backbone, list[Example](), np.zeros(probing.backbone.size)
    for number in range(HELD):
        gradient = none.copy()
        gradient[number] = STRENGTH * settings.record.max_grad_norm
        train.append(backbone.probe(f"{number}", gradient))
    asks = [(number, 0) for number in range(1, ROUNDS + 1)]
    one = asked(Witness(probing.system, settings, [Person(train)], seed, RUN, silent=()), asks)
    backbone.probes = dict.fromkeys(backbone.probes, Probe(none.astype(np.float32)))
    zero = asked(Witness(probing.system, settings, [Person(train)], seed, RUN, silent=()), asks)
    inside = [
        -(b.real - a.real)[:HELD] / probing.unit > 0.5 for a, b in zip(zero, one, strict=True)
    ]
    sizes = np.sum(inside, axis=1)
    noise = [seen.row("record").get("count_noise") or 0.0 for seen in one]
    evidence.at_most("windows that are not nested", _crossing(np.stack(inside)), 0)
    slope = sizes.mean() / HELD
    claimed = float(np.mean(np.square(noise))) * slope**2
    from scipy.stats import chi2

    spread = float(np.var(sizes, ddof=1)) * (len(sizes) - 1)
    p = float(chi2.cdf(spread / (ROOM * claimed), len(sizes) - 1)) if claimed else 0.0
    evidence.tested(f"windows of {sizes.min()} to {sizes.max()} examples", p)


def _crossing(inside: np.typing.NDArray[np.bool_]) -> int:
    """Pairs of rounds of which neither window holds the other."""
    pairs = ((a, b) for n, a in enumerate(inside) for b in inside[:n])
    return sum(bool((a & ~b).any() and (b & ~a).any()) for a, b in pairs)


def _without(things: Sequence[T], chance: random.Random) -> list[T]:
    gone = chance.randrange(len(things)) if things else 0
    return [thing for number, thing in enumerate(things) if number != gone]


def _edits(one: Sequence[Example], two: Sequence[Example]) -> int:
    """Answers that come or go."""
    ours, theirs = Counter(one), Counter(two)
    return (ours - theirs).total() + (theirs - ours).total()
