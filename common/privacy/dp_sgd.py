"""Local training steps: DP-SGD through Opacus (Abadi et al. 2016, algorithm 1), and plain.

Both take a loss that is summed over the examples of a micro-batch, so that one example's gradient
does not depend on its neighbours. Clipping is Opacus'; batches and noise are `noise.py`'s, from the
device's own bytes, and no generator of torch's has a part in them. This file and `accountant.py`
alone import Opacus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.grad_sample import GradSampleHooks
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer import _check_processed_flag, _mark_as_processed
from torch import Tensor, nn

from common.errors import PrivityError
from common.privacy.noise import gaussian, poisson_batch
from common.privacy.randomness import Random
from common.system.quiet import no_warnings

Example = Any
LossSum = Callable[[Any], Tensor]
Batches = Callable[[Sequence[Example]], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class DPSettings:
    """The settings of DP-SGD on one device in one round.

    Attributes:
        noise_multiplier: σ, the noise's standard deviation in units of `max_grad_norm`.
        max_grad_norm: C, the L2 bound on one example's gradient.
        sample_rate: q, the probability that an example is in a step's Poisson batch.
        steps: Number of noisy steps.
        divisor: What the noisy sum is divided by. Public and the same on every device, so that
            the number of examples a device holds is not in what it sends.
    """

    noise_multiplier: float
    max_grad_norm: float
    sample_rate: float
    steps: int
    divisor: float


def _bounded_samples(optimizer: DPOptimizer) -> int:
    """How many examples' gradients there are; what is not finite counts as zero.

    An infinite gradient would otherwise come through clipping as NaN, which noise does not hide.
    """
    for parameter in optimizer.params:
        finite = torch.nan_to_num(parameter.grad_sample, nan=0.0, posinf=0.0, neginf=0.0)
        parameter.grad_sample = finite
    sizes = {len(parameter.grad_sample) for parameter in optimizer.params}
    return sizes.pop() if len(sizes) == 1 else -1


def _public_divisor(settings: DPSettings, _held: int) -> float:
    """Not by how many examples a device holds."""
    return settings.divisor


@dataclass(frozen=True, slots=True)
class StepParts:
    """What a noisy step is made of, in the order of the algorithm.

    Attributes:
        sampled: Poisson batch: the indices below a size, each in with a probability.
        bounded: Makes every example's gradient finite; how many examples there were.
        clip: Adds every example's gradient, clipped to C, to the optimizer's sum.
        noise: Independent draws of N(0, std²): [size].
        divisor: What the noisy sum is divided by, given how many examples the device holds.
    """

    sampled: Callable[[int, float, Random], list[int]] = poisson_batch
    bounded: Callable[[DPOptimizer], int] = _bounded_samples
    clip: Callable[[DPOptimizer], None] = DPOptimizer.clip_and_accumulate
    noise: Callable[[int, float, Random], NDArray[np.float64]] = gaussian
    divisor: Callable[[DPSettings, int], float] = _public_divisor


SOUND = StepParts()


def private_steps(
    layers: nn.ModuleList,
    optimizer: torch.optim.Optimizer,
    examples: Sequence[Example],
    batches: Batches,
    loss_sum: LossSum,
    settings: DPSettings,
    random: Random,
    parts: StepParts = SOUND,
) -> None:
    """Run DP-SGD steps on the weights of `layers`.

    Args:
        layers: The linear layers trained, requiring gradients; all else is frozen.
        optimizer: Over exactly the parameters of `layers`.
        batches: Splits a Poisson batch into micro-batches.
        loss_sum: Loss of a micro-batch, summed over its examples.
        random: Source of both the Poisson batches and the noise.
        parts: The algorithm's own, unless something is to be broken on purpose.
    """
    hooks = GradSampleHooks(layers, loss_reduction="sum")
    private = _PrivateOptimizer(optimizer, settings, len(examples), random, parts)
    try:
        # The lowest layer's input needs no gradient, rightly.
        with no_warnings("Full backward hook is firing"):
            for _ in range(settings.steps):
                chosen = parts.sampled(len(examples), settings.sample_rate, random)
                _private_step(private, [examples[i] for i in chosen], batches, loss_sum, parts)
    finally:
        hooks.remove_hooks()
        _forget_samples(layers)


class _PrivateOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus' optimizer with the noise of `noise.py`."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        settings: DPSettings,
        held: int,
        random: Random,
        parts: StepParts,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=settings.noise_multiplier,
            max_grad_norm=settings.max_grad_norm,
            expected_batch_size=parts.divisor(settings, held),
        )
        self._random, self._parts = random, parts

    def clip_and_accumulate(self) -> None:
        """Add every example's clipped gradient to `summed_grad`."""
        self._parts.clip(self)

    def add_noise(self) -> None:
        """Write summed gradient + N(0, (σC)²) to `grad`; no sum is used twice."""
        std = self.noise_multiplier * self.max_grad_norm
        for parameter in self.params:
            total = parameter.summed_grad
            _check_processed_flag(total)
            noise = torch.from_numpy(self._parts.noise(total.numel(), std, self._random))
            parameter.grad = (total + noise.to(total).view_as(total)).view_as(parameter)
            _mark_as_processed(total)


def _private_step(
    optimizer: DPOptimizer,
    chosen: Sequence[Example],
    batches: Batches,
    loss_sum: LossSum,
    parts: StepParts,
) -> None:
    """Clip every example's gradient to C, sum, add noise σC once, divide, step."""
    seen = 0
    for batch in batches(chosen):
        loss_sum(batch).backward()  # type: ignore[no-untyped-call]
        seen += parts.bounded(optimizer)
        optimizer.signal_skip_step(True)  # clip and add to the sum only
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if seen != len(chosen):
        problem = f"{seen} gradients for {len(chosen)} examples: clipping would bound nothing."
        raise PrivityError(problem, "This model flattens its sequences; train other --modules.")
    _empty_samples(optimizer)
    optimizer.step()  # noise, division by the public constant, step
    optimizer.zero_grad(set_to_none=True)


def _empty_samples(optimizer: DPOptimizer) -> None:
    """A batch of no examples: closes the sum, and makes an empty Poisson batch pure noise."""
    for parameter in optimizer.params:
        parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))


def _forget_samples(layers: nn.ModuleList) -> None:
    for parameter in layers.parameters():
        for name in ("grad_sample", "summed_grad", "_forward_counter", "_current_grad_sample"):
            if hasattr(parameter, name):
                delattr(parameter, name)


def plain_steps(
    optimizer: torch.optim.Optimizer,
    schedule: Iterable[Sequence[Example]],
    batches: Batches,
    loss_sum: LossSum,
) -> None:
    """One optimiser step for each batch of the schedule, on its mean loss. No privacy."""
    for chosen in schedule:
        for batch in batches(chosen):
            (loss_sum(batch) / len(chosen)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
