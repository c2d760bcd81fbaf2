"""Single faults that reviewers planted in the product, each as small as it would be in real code.

A fault exchanges one step of a device's round (two, where one would hide behind the other) or what
it keeps; everything around it is sound. `variants.py` puts them beside the systems that are broken
as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.federation.budget import next_release
from client.federation.steps import SOUND as STEPS
from client.learning.training import Trained
from client.vault.ledger import Charge, Ledger
from common.adapter.plan import Vector
from common.learning.backbone import Backbone, Prepared
from common.privacy import dp_sgd
from common.privacy.accountant import Release, epsilon
from common.privacy.noise import discrete_gaussian, gaussian
from common.privacy.randomness import Random
from common.rounds.round_terms import user_rho
from common.secagg import RoundTerms
from common.settings import Settings
from simulations.evidence.audit.system import System, stream

Noise = Callable[[int, float, Random], NDArray[Any]]
_mark_as_processed: Any = vars(dp_sgd)["_mark_as_processed"]
SHORT = 2  # bytes of a seed
OTHER_DELTA = 1e-2


def fault(name: str, **steps: Any) -> System:
    """A system whose devices have other steps, by name."""
    return System(name, steps=replace(STEPS, **steps))


def fault_inside(name: str, **parts: Any) -> System:
    """A system whose noisy gradient steps have another part, by name."""
    return fault(name, private=replace(dp_sgd.SOUND, **parts))


def _halved(sound: Noise) -> Noise:
    return lambda size, std, random: sound(size, std / 2, random)


def _looser(*given: Any, **parts: Any) -> Trained:
    """Gradients may be twice as long; the noise is what it was."""
    *others, settings, release, random = given
    wide = settings.but(max_grad_norm=2 * settings.record.max_grad_norm)
    same = replace(release, noise_multiplier=release.noise_multiplier / 2)
    return STEPS.train_shared(*others, wide, same, random, **parts)


def _one_step_more(*given: Any, **parts: Any) -> Trained:
    *others, release, random = given
    return STEPS.train_shared(*others, replace(release, steps=release.steps + 1), random, **parts)


def _per_layer(optimizer: Any) -> None:
    """Each layer's part of a gradient is clipped to C by itself."""
    for parameter in optimizer.params:
        sample = optimizer._get_flat_grad_sample(parameter)
        norms = sample.flatten(1).norm(dim=1).clamp(min=1e-12)
        factor = (optimizer.max_grad_norm / norms).clamp(max=1.0)
        _add(parameter, torch.einsum("i,i...", factor, sample))


def _per_coordinate(optimizer: Any) -> None:
    bound = optimizer.max_grad_norm
    for parameter in optimizer.params:
        sample = optimizer._get_flat_grad_sample(parameter)
        _add(parameter, sample.clamp(-bound, bound).sum(dim=0))


def _add(parameter: Any, total: torch.Tensor) -> None:
    summed = parameter.summed_grad
    parameter.summed_grad = total if summed is None else summed + total
    _mark_as_processed(parameter.grad_sample)


def _own_count(settings: dp_sgd.DPSettings, held: int) -> float:
    """The sum is divided by how many examples there are, not by how many are expected."""
    return settings.sample_rate * max(1, held)


def _same_noise(*given: Any, **parts: Any) -> Trained:
    *others, _random = given
    return STEPS.train_shared(*others, stream(0, "always the same"), **parts)


def _same_share(size: int, noise: float, _random: Random) -> NDArray[np.int64]:
    return discrete_gaussian(size, noise, stream(0, "always the same"))


class _FreeRetries(Ledger):
    """Charges no retry of round 1."""

    def charge(self, charge: Charge) -> None:
        """Enter a release, or not."""
        if not (charge.round == 1 and charge.attempt):
            super().charge(charge)


def _largest_coordinate(update: NDArray[Any], bound: float) -> NDArray[Any]:
    return np.asarray(np.clip(update, -bound, bound))


def _unbounded(update: NDArray[Any], clip: float, levels: int) -> NDArray[np.int32]:
    return np.asarray(np.trunc(update * (levels / clip)), dtype=np.int32)


def _quarter_of_rho(terms: RoundTerms) -> float:
    return user_rho(terms) / 4


def _no_noise(size: int, _std: float, _random: Random) -> NDArray[np.float64]:
    return np.zeros(size)


def _upper_clip_only(
    backbone: Backbone, shared: Vector, answers: Sequence[Prepared], limit: float, expected: int
) -> float:
    return _sum_of_gains(backbone, shared, answers, -np.inf, limit) / expected


def _divided_by_own_count(
    backbone: Backbone, shared: Vector, answers: Sequence[Prepared], limit: float, _expected: int
) -> float:
    return _sum_of_gains(backbone, shared, answers, -limit, limit) / len(answers)


def _sum_of_gains(
    backbone: Backbone, shared: Vector, answers: Sequence[Prepared], low: float, limit: float
) -> float:
    total = 0.0
    for batch in backbone.batches(answers):
        with backbone.using():
            before = _means(backbone.losses(batch))
        with backbone.using(shared):
            after = _means(backbone.losses(batch))
        gained = torch.nan_to_num(before - after, nan=-limit)
        total += float(gained.clamp(low, limit).sum())
    return total


def _means(losses: tuple[Tensor, Tensor]) -> Tensor:
    sums, predictions = losses
    return sums / predictions.clamp(min=1)


def _short_seed(size: int, std: float, random: Random) -> NDArray[np.float64]:
    chance = np.random.default_rng(int.from_bytes(random(SHORT), "little"))
    return chance.normal(0, std, size) if std else np.zeros(size)


def _short_share(size: int, noise: float, random: Random) -> NDArray[np.int64]:
    return np.asarray(np.rint(_short_seed(size, noise, random)), dtype=np.int64)


def _not_finite_passes(optimizer: Any) -> int:
    return len(optimizer.params[0].grad_sample)


def _epsilon_at_other_delta(events: Sequence[Release], _delta: float, accountant: str) -> float:
    return epsilon(events, OTHER_DELTA, accountant)


def _release_at_other_delta(
    past: Any, settings: Settings, number: int, evaluations: Any = ()
) -> Release:
    return next_release(past, settings.but(delta=OTHER_DELTA), number, evaluations)


PLANTED: dict[str, System] = {
    system.name: system
    for system in (
        # By how much a record moves an update.
        fault("clip-doubled", train_shared=_looser),
        fault("extra-step", train_shared=_one_step_more),
        fault_inside("clip-per-layer", clip=_per_layer),
        fault_inside("clip-per-coordinate", clip=_per_coordinate),
        fault_inside("own-divisor", divisor=_own_count),
        fault_inside("not-a-number", bounded=_not_finite_passes),
        # The noise of an update.
        fault_inside("record-noise-halved", noise=_halved(gaussian)),
        fault("record-noise-same", train_shared=_same_noise),
        fault_inside("record-noise-16-bits", noise=_short_seed),
        # By how much a person moves a sum.
        fault(
            "user-clip-per-coordinate",
            clip_norm=_largest_coordinate,
            quantize_towards_zero=_unbounded,
        ),
        # The noise of a share.
        fault("share-noise-halved", noise_share=_halved(discrete_gaussian)),
        fault("share-noise-same", noise_share=_same_share),
        fault("share-noise-16-bits", noise_share=_short_share),
        # By how much an answer moves a figure, and its noise.
        fault("figure-lower-clip-off", gain=_upper_clip_only),
        fault("figure-own-count", gain=_divided_by_own_count),
        fault("figure-noise-off", figure_noise=_no_noise),
        fault("figure-noise-16-bits", figure_noise=_short_seed),
        # What is charged and stated.
        fault("wrong-delta", next_release=_release_at_other_delta, epsilon=_epsilon_at_other_delta),
        System("retries-uncharged", ledger=_FreeRetries),
        fault("rho-quartered", user_rho=_quarter_of_rho),
        replace(
            fault("rho-quartered-everywhere", user_rho=_quarter_of_rho), user_rho=_quarter_of_rho
        ),
    )
}
