"""A device's figure in the federated evaluation: what the published adapter gains here.

The base and the published adapter, nothing personal, predict the device's own held-out answers.
`common/privacy/evaluation.py` says how the figure is bounded, noised and scaled. It is computed
before training, from the adapter exactly as it was handed out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from common.adapter.plan import Vector
from common.adapter.weights import Shared, whole
from common.learning.backbone import Backbone, Prepared
from common.privacy import evaluation
from common.privacy.randomness import Random
from common.settings import Settings
from common.tasks.task import Example

if TYPE_CHECKING:
    from client.federation.steps import Steps


def fingerprint(examples: Sequence[Example]) -> str:
    """SHA-256, hex, of examples; stays in the ledger."""
    content = [(*example.content, example.at) for example in examples]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def coordinate(
    steps: Steps,
    settings: Settings,
    published: Shared,
    kept: Vector | None,
    heldout: Sequence[Example] | None,
    random: Random,
) -> Vector:
    """What travels behind the update: [1], or [0] where the run has no evaluation.

    Args:
        steps: Whose model, gain and noise.
        kept: The parts of the shared adapter that this device keeps (FedSA's B).
        heldout: The held-out answers in the release's window; none, and None where nothing may
            be told of them, give noise around 0.
        random: Source of the noise.
    """
    if not evaluation.coordinates(settings.evaluation):
        return np.zeros(0, dtype=np.float32)
    figure = 0.0
    if heldout:
        backbone = steps.backbone(settings)
        figure = steps.gain(
            backbone,
            whole(published, kept),
            backbone.prepared(heldout),
            settings.evaluation.range,
            evaluation.counted_answers(settings.rounds),
        )
    noise = steps.figure_noise(1, evaluation.device_std(settings), random)
    return scaled(figure + noise, settings)


def scaled(figures: np.typing.NDArray[np.float64], settings: Settings) -> Vector:
    """Noisy figures in units of the parameter, as the secure sum takes them."""
    most = evaluation.figure_range(settings)
    bounded = np.clip(figures, -most, most) / evaluation.nats(settings)
    return np.asarray(bounded, dtype=np.float32)


def gain(
    backbone: Backbone, shared: Vector, answers: Sequence[Prepared], limit: float, expected: int
) -> float:
    """Gain over the base of a shared adapter (A and B, flattened), in nats.

    The sum over all answers, each clipped to ±R, divided by the K that are expected.

    Args:
        limit: R.
        expected: K.
    """
    total = 0.0
    for batch in backbone.batches(answers):
        with backbone.using():
            before = _means(backbone.losses(batch))
        with backbone.using(shared):
            after = _means(backbone.losses(batch))
        # An adapter whose loss is no number is as bad as can be.
        gains = torch.nan_to_num(before - after, nan=-limit).clamp(-limit, limit)
        total += float(gains.sum())
    return total / expected


def _means(losses: tuple[Tensor, Tensor]) -> Tensor:
    """Mean loss of each example in nats: [batch]."""
    sums, predictions = losses
    return sums / predictions.clamp(min=1)
