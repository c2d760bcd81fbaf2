"""Record level, two worlds: what one private record moves, however it gets into the update.

A record that trains the personal adapter must not reach the shared update by that way: were the
personal adapter on in shared training, it would move every other example's gradient too. Both
worlds are run many times with fresh noise. The attacker knows everything but the world, so it
projects the update on the difference of the two noiseless ones and compares with the middle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.learning.training import train_personal
from common.adapter.plan import Vector
from common.adapter.weights import Shared
from common.learning.backbone import Backbone, Prepared, adapter_plans
from common.privacy.accountant import Release
from common.settings import Settings
from common.tasks import task_of
from simulations.evidence.audit.findings import Finding
from simulations.evidence.audit.people import talk
from simulations.evidence.audit.scale import CLAIMED_EPSILON, DELTA, Scale
from simulations.evidence.audit.system import System, stream
from simulations.evidence.audit.two_worlds import two_worlds_finding

CHECK = "record level, two worlds"
# The guarantee holds for any data: somebody who always gives one answer, and one other record.
USUAL, OTHER = ("hello",), ("QQQQQQQ",)  # their words
EXAMPLES, PERSONAL_EPOCHS = 32, 5


@dataclass(frozen=True, slots=True)
class _World:
    """A device that has the record, or has not."""

    system: System
    backbone: Backbone
    settings: Settings
    examples: list[Prepared]
    seed: int

    def updates(self, release: Release, count: int, purpose: str) -> NDArray[np.float32]:
        """What the device would send in `count` independent runs: [count, dimension]."""
        random = stream(self.seed, "influence/personal")
        train_personal(
            self.backbone,
            self.examples,
            self.settings.personal,
            self.settings.training,
            random,
            shared=None,
        )
        return np.stack([self._update(release, f"{purpose}/{run}") for run in range(count)])

    def _update(self, release: Release, purpose: str) -> Vector:
        plan = self.backbone.shared
        published = Shared(plan, plan.initial(plan.sent))
        random = stream(self.seed, f"influence/{purpose}")
        steps = self.system.steps
        given = self.backbone, published, None, self.examples, self.settings, release, random
        trained = steps.train_shared(*given, steps=steps.private)
        return trained.sent - published.vector


def influence(system: System, scale: Scale, seed: int) -> list[Finding]:
    """Bound ε of one record from the updates of a device with and without it."""
    settings = system.learning(_settings())
    backbone = Backbone(
        task_of(settings.task), settings.model.name, *adapter_plans(settings), settings.model.dtype
    )
    worlds = [_World(system, backbone, settings, e, seed) for e in _data(backbone)]
    release = system.steps.next_release([], settings, 1)
    silent = Release(0.0, release.sample_rate, release.steps)
    centres = [world.updates(silent, 1, "noiseless")[0].astype(np.float64) for world in worlds]
    direction, middle = centres[1] - centres[0], (centres[0] + centres[1]) / 2
    sides = [
        (world.updates(release, scale.runs, f"world {number}") - middle) @ direction > 0
        for number, world in enumerate(worlds)
    ]
    shift = (
        float(np.linalg.norm(direction)) * settings.rounds.examples / settings.record.max_grad_norm
    )
    counts = int(sides[0].sum()), int((~sides[1]).sum()), scale.runs
    tried = "guess which from what the device sent"
    return [two_worlds_finding(CHECK, system, tried, counts, (shift, "C"))]


def _data(backbone: Backbone) -> tuple[list[Prepared], list[Prepared]]:
    """The examples without and with the record.

    Of a task with labels the same words have any of them: what a personal adapter would learn by
    heart has no gradient left that the record could move.
    """
    chance, task = talk(0, "influence"), backbone.task
    often = backbone.prepared([task.made_up(chance, USUAL) for _ in range(EXAMPLES)])
    return often, [*often, *backbone.prepared([task.made_up(chance, OTHER)])]


def _settings() -> Settings:
    """One round of the product's default training."""
    return Settings.of(
        model="tiny",
        rounds=1,
        epsilon=CLAIMED_EPSILON,
        delta=DELTA,
        examples=EXAMPLES,
        personal_epochs=PERSONAL_EPOCHS,
    )
