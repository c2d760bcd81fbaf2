"""The same model, trained in as many steps on everybody's examples in one place, without privacy.

What a federation is measured against. Here every text counts the same, there every person.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np

from client.learning.training import train_shared
from common.adapter.plan import Vector
from common.adapter.weights import Shared, whole
from common.learning.backbone import backbone_for
from common.settings import Settings
from common.system import files
from server.registry.registry import RuleState
from server.round import aggregation
from simulations import devices

FILE = "pooled.npy"
POOLED = -3  # whose randomness the batches come from


def pooled(settings: Settings, run: Path) -> Vector:
    """A and B of the adapter, flattened; trained once and kept in the run's folder."""
    file = run / FILE
    if not file.exists():
        content = BytesIO()
        np.save(content, _trained(settings))
        files.write(file, content.getvalue(), durable=False)
    found: Vector = np.load(file)
    return found


def _trained(settings: Settings) -> Vector:
    backbone = backbone_for(settings)
    plan = backbone.shared
    people = devices.people(settings)
    examples = backbone.prepared(
        [one for user in people for one in devices.examples(settings, user)[0]]
    )
    random = devices.SeededRandomness(settings.rounds.seed, POOLED).stream("batches")
    shared, state = Shared(plan, plan.initial(plan.sent)), RuleState.fresh(plan.dimension)
    kept = None
    for _ in range(settings.rounds.count):
        learnt = train_shared(backbone, shared, kept, examples, settings, None, random)
        vector, state = aggregation.apply(
            settings.training, state, shared.vector, learnt.sent - shared.vector
        )
        shared, kept = Shared(plan, vector), learnt.kept if len(learnt.kept) else None
    return whole(shared, kept)
