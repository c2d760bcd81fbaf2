"""What a device learns: one round's shared update under DP-SGD, and its personal adapter.

Shared training starts from the published adapter with everything privately fitted switched off:
only so is one example's influence bounded by its own clipped gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.adapter import lora
from common.adapter.plan import BOTH, Vector, kept_parts
from common.adapter.weights import Personal, Shared, whole
from common.learning.backbone import Backbone, Batch, Prepared
from common.privacy.accountant import Release
from common.privacy.dp_sgd import SOUND, DPSettings, StepParts, plain_steps, private_steps
from common.privacy.noise import poisson_batch
from common.privacy.randomness import Random
from common.settings import PersonalSettings, RecordLevel, RoundSettings, Settings, TrainingSettings


@dataclass(frozen=True, slots=True, repr=False)
class Trained:
    """What shared training left: `sent` parts, `kept` parts that stay here, and what it took.

    `loss` is the mean loss in nats over the round's examples; it stays on the device.
    """

    sent: Vector
    kept: Vector
    loss: float
    tokens: int


def train_shared(
    backbone: Backbone,
    published: Shared,
    kept: Vector | None,
    examples: Sequence[Prepared],
    settings: Settings,
    release: Release | None,
    random: Random,
    *,
    steps: StepParts = SOUND,
) -> Trained:
    """Run one round's local steps from the published adapter.

    Args:
        kept: Parts that stayed here after the last round (FedSA's B), themselves learnt only
            under the same DP-SGD; None starts them anew.
        release: Noise and steps to spend, or None for training without privacy.
        random: Source of the batches and of the noise.
        steps: What a noisy step is made of.
    """
    plan, model = published.plan, backbone.model
    stays = kept_parts(settings.adapter.sharing)
    with (
        backbone.using(whole(published, kept)),
        lora.trainable(model, lora.SHARED, plan) as layers,
    ):
        optimizer = _optimizer(settings.training, list(layers.parameters()))
        loss = LossSum(backbone)
        if release is None:
            schedule = _poisson_schedule(examples, settings.training, settings.record, random)
            plain_steps(optimizer, schedule, backbone.batches, loss)
        else:
            private = _dp_settings(release, settings.record, settings.rounds)
            private_steps(
                layers, optimizer, examples, backbone.batches, loss, private, random, steps
            )
    sent = lora.read(model, lora.SHARED, plan, plan.sent)
    return Trained(sent, lora.read(model, lora.SHARED, plan, stays), loss.mean, loss.tokens)


def train_personal(
    backbone: Backbone,
    examples: Sequence[Prepared],
    personal: PersonalSettings,
    training: TrainingSettings,
    random: Random,
    *,
    shared: Vector | None,
    step: Callable[[int], None] | None = None,
) -> tuple[Personal, int]:
    """Fit the personal adapter on the device's own examples; nothing of it is ever sent.

    Args:
        random: Source of the order of the examples, which protects nothing.
        shared: Fit it on top of this shared adapter (A and B, flattened), or alone.
        step: Told, before each step, how many examples it takes.

    Returns:
        The adapter, and the number of tokens trained on.
    """
    plan, model = backbone.personal, backbone.model
    with (
        backbone.using(shared, plan.initial(BOTH)),
        lora.trainable(model, lora.PERSONAL, plan, BOTH) as layers,
    ):
        optimizer = torch.optim.AdamW(
            layers.parameters(),
            lr=personal.rate,
            weight_decay=training.weight_decay,
        )
        schedule = _epochs(examples, personal, random)
        loss = LossSum(backbone)
        plain_steps(optimizer, _told(schedule, step), backbone.batches, loss)
    return Personal(plan, lora.read(model, lora.PERSONAL, plan, BOTH)), loss.tokens


def _told(
    schedule: Sequence[list[Prepared]], step: Callable[[int], None] | None
) -> Iterator[list[Prepared]]:
    for batch in schedule:
        if step is not None:
            step(len(batch))
        yield batch


class LossSum:
    """The task's loss, a mean over each example's own predictions, summed over the examples.

    Called on a micro-batch. Remembers the mean over everything it saw, and how many tokens.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._total, self._examples, self.tokens = 0.0, 0, 0

    def __call__(self, batch: Batch) -> Tensor:
        """The summed loss of a micro-batch, in nats."""
        sums, predictions = self._backbone.losses(batch)
        loss = (sums / predictions.clamp(min=1)).sum()
        self._total += float(loss.detach())
        self._examples += len(sums)
        self.tokens += batch.tokens
        return loss

    @property
    def mean(self) -> float:
        """Mean loss of the examples seen, in nats."""
        return self._total / max(1, self._examples)


def _optimizer(
    training: TrainingSettings, parameters: list[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, weight_decay=decay)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)


def _dp_settings(release: Release, record: RecordLevel, rounds: RoundSettings) -> DPSettings:
    return DPSettings(
        noise_multiplier=release.noise_multiplier,
        max_grad_norm=record.max_grad_norm,
        sample_rate=release.sample_rate,
        steps=release.steps,
        divisor=release.sample_rate * rounds.examples,
    )


def _poisson_schedule(
    examples: Sequence[Prepared], training: TrainingSettings, record: RecordLevel, random: Random
) -> list[list[Prepared]]:
    """The batches that DP-SGD would draw, for the comparison without privacy."""
    drawn = []
    for _ in range(training.local_steps):
        chosen = poisson_batch(len(examples), record.sample_rate, random)
        if chosen:
            drawn.append([examples[i] for i in chosen])
    return drawn


def _epochs(
    examples: Sequence[Prepared], personal: PersonalSettings, random: Random
) -> list[list[Prepared]]:
    generator = torch.Generator().manual_seed(int.from_bytes(random(8), "little") >> 1)
    batches = []
    for _ in range(personal.epochs):
        order = torch.randperm(len(examples), generator=generator).tolist()
        for start in range(0, len(order), personal.batch):
            batches.append([examples[i] for i in order[start : start + personal.batch]])
    return batches
