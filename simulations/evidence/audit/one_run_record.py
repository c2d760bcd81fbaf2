"""Record level, one run: a device trains with gradient canaries among its examples.

The attacker sees every update as it leaves the device, before the secure sum, since this guarantee
holds against everybody. A canary's score is the inner product of all updates with its direction
(Steinke, Nasr, Jagielski 2023, section 6.1; Nasr et al. 2023, https://arxiv.org/abs/2302.07956).
"""

from __future__ import annotations

import numpy as np

from common.adapter.weights import Shared
from common.settings import Settings
from simulations.evidence.audit.canaries import MODULES, CanaryBackbone, canary
from simulations.evidence.audit.findings import Finding
from simulations.evidence.audit.one_device import Rounds, Streams, new_device
from simulations.evidence.audit.one_run import one_run_finding
from simulations.evidence.audit.people import examples_of, talk
from simulations.evidence.audit.scale import CLAIMED_EPSILON, DELTA, STRENGTH, Scale
from simulations.evidence.audit.system import System, coins, stream

CHECK = "record level, one run"
REAL = 16  # examples of an ordinary person beside the canaries


def record_level(system: System, scale: Scale, seed: int) -> list[Finding]:
    """Bound ε of one example on one device over a whole run."""
    settings = system.learning(canary_settings(scale))
    backbone = CanaryBackbone(settings, STRENGTH * settings.record.max_grad_norm)
    included = coins(scale.canaries, stream(seed, "record/coins"))
    real = examples_of(talk(seed, "record/person"), REAL, settings.task)
    examples = [*real, *(canary(int(c)) for c in np.flatnonzero(included))]
    device = new_device(system.on(backbone), Streams(seed, "record"), examples)
    rounds = Rounds.of(device, settings)
    published = Shared(backbone.shared, backbone.shared.initial(backbone.shared.sent))
    scores = np.zeros(scale.canaries)
    for number in range(1, scale.rounds + 1):
        update = rounds.update(number, published)
        scores -= update[: scale.canaries]  # descent goes against the gradient
        published = Shared(published.plan, published.vector + update)
    tried = (
        f"{scale.canaries:,} gradient canaries, {scale.rounds} rounds; guess who was in from "
        "what the device sent"
    )
    return [one_run_finding(CHECK, system.name, tried, scores, included)]


def canary_settings(scale: Scale) -> Settings:
    """Rank 8 on all modules gives each canary a coordinate; all else is the default."""
    return Settings.of(
        model="tiny",
        modules=MODULES,
        layers=0,
        rank=8,
        rounds=scale.rounds,
        epsilon=CLAIMED_EPSILON,
        delta=DELTA,
        examples=scale.canaries + REAL,
    )
