"""The federated evaluation, two worlds: what one held-out answer moves in a device's figure.

The published adapter is the attacker's, and with the range that the run sets it is the worst there
is: it spoils every answer by more than counts, so that one answer more moves the figure by the
whole of what it may, R / K.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from client.federation import gain as on_device
from client.federation.steps import Steps
from common.adapter.weights import Shared
from common.learning.backbone import Backbone, adapter_plans
from common.privacy import evaluation
from common.privacy.randomness import Random
from common.settings import Settings
from common.tasks import task_of
from simulations.evidence.audit.findings import Finding
from simulations.evidence.audit.people import examples_of, talk
from simulations.evidence.audit.scale import CLAIMED_EPSILON, DELTA, Scale
from simulations.evidence.audit.system import System, stream
from simulations.evidence.audit.two_worlds import two_worlds_finding

CHECK = "evaluation, two worlds"
EXAMPLES, RUINOUS, RANGE = 16, 100.0, 0.1  # RUINOUS: size of the adapter's weights; RANGE: nats


@dataclass(frozen=True, slots=True)
class _World:
    """A device with so many held-out answers."""

    steps: Steps
    settings: Settings
    published: Shared
    answers: int

    def figure(self, random: Random) -> float:
        """What the device would send beside its update, in nats."""
        heldout = examples_of(talk(0, "figure/answer"), 1, self.settings.task) * self.answers
        given = self.settings, self.published, None, heldout, random
        sent = on_device.coordinate(self.steps, *given)
        return float(sent[0]) * evaluation.nats(self.settings)


def figure(system: System, scale: Scale, seed: int) -> list[Finding]:
    """Bound ε of one held-out answer from the figures of a device with and without it."""
    settings = system.learning(_settings())
    most = evaluation.counted_answers(settings.rounds)
    backbone = Backbone(
        task_of(settings.task), settings.model.name, *adapter_plans(settings), settings.model.dtype
    )
    published = _ruinous(backbone, seed)
    worlds = [
        _World(system.on(backbone).steps, settings, published, most - less) for less in (1, 0)
    ]
    exact = [
        replace(world, steps=replace(world.steps, figure_noise=_none)).figure(bytes)
        for world in worlds
    ]
    middle, less = sum(exact) / 2, exact[1] < exact[0]
    said_second = [
        [
            (world.figure(stream(seed, f"figure/{number}/{run}")) < middle) == less
            for run in range(scale.runs)
        ]
        for number, world in enumerate(worlds)
    ]
    counts = sum(said_second[0]), scale.runs - sum(said_second[1]), scale.runs
    shift = abs(exact[1] - exact[0]) / (settings.evaluation.range / most)
    tried = "guess which from the device's figure for a ruinous adapter"
    return [two_worlds_finding(CHECK, system, tried, counts, (shift, "R / K"))]


def _ruinous(backbone: Backbone, seed: int) -> Shared:
    plan = backbone.shared
    signs = np.frombuffer(stream(seed, "figure/adapter")(plan.dimension), dtype=np.uint8) % 2
    return Shared(plan, (RUINOUS * (2.0 * signs - 1)).astype(np.float32))


def _none(size: int, _std: float, _random: Random) -> np.typing.NDArray[np.float64]:
    return np.zeros(size)


def _settings() -> Settings:
    """One evaluation, and an update whose budget does not count here."""
    return Settings.of(
        model="tiny",
        rounds=1,
        epsilon=2 * CLAIMED_EPSILON,
        evaluation_epsilon=CLAIMED_EPSILON,
        evaluation_range=RANGE,
        delta=DELTA,
        examples=EXAMPLES,
    )
