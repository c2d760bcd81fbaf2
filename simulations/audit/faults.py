"""Single faults that reviewers planted in the product, each as small as it would be in real code.

A fault exchanges one name of a product's module; everything around it is sound. `variants.py` puts
them beside the systems that are broken as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client import evaluation, ledger, participation
from client import training as on_device
from client.budget import next_release
from client.training import Trained, train_shared
from common import terms
from common.config import Settings
from common.evaluation import counted_answers
from common.privacy import training
from common.privacy.noise import discrete_gaussian
from common.randomness import Random
from simulations.audit.system import Swap, System, stream

Made = Callable[[Any], Any]
_train: Any = train_shared
_mark_as_processed: Any = vars(training)["_mark_as_processed"]
SHORT = 2  # bytes of a seed
OTHER_DELTA = 1e-2


def fault(name: str, place: Any, what: str, made: Made) -> System:
    """A system with one name exchanged."""
    return System(name, swaps=(Swap(place, what, made),))


def _halved(sound: Any) -> Any:
    return lambda size, std, random: sound(size, std / 2, random)


def _looser(sound: Any) -> Any:
    """Gradients may be twice as long; the noise is what it was."""

    def settings(*given: Any) -> Any:
        right = sound(*given)
        return replace(
            right,
            max_grad_norm=2 * right.max_grad_norm,
            noise_multiplier=right.noise_multiplier / 2,
        )

    return settings


def _one_step_more(sound: Any) -> Any:
    def settings(*given: Any) -> Any:
        right = sound(*given)
        return replace(right, steps=right.steps + 1)

    return settings


def _per_layer(_sound: Any) -> Any:
    """Each layer's part of a gradient is clipped to C by itself."""

    def clip(self: Any) -> None:
        for parameter in self.params:
            sample = self._get_flat_grad_sample(parameter)
            norms = sample.flatten(1).norm(dim=1).clamp(min=1e-12)
            factor = (self.max_grad_norm / norms).clamp(max=1.0)
            _add(parameter, torch.einsum("i,i...", factor, sample))

    return clip


def _per_coordinate(_sound: Any) -> Any:
    def clip(self: Any) -> None:
        bound = self.max_grad_norm
        for parameter in self.params:
            sample = self._get_flat_grad_sample(parameter)
            _add(parameter, sample.clamp(-bound, bound).sum(dim=0))

    return clip


def _add(parameter: Any, total: torch.Tensor) -> None:
    summed = parameter.summed_grad
    parameter.summed_grad = total if summed is None else summed + total
    _mark_as_processed(parameter.grad_sample)


def _own_count(sound: Any) -> Any:
    def steps(layers: Any, optimizer: Any, examples: Any, *others: Any) -> None:
        *between, settings, random = others
        own = replace(settings, divisor=settings.sample_rate * max(1, len(examples)))
        sound(layers, optimizer, examples, *between, own, random)

    return steps


def _same_noise(*given: Any) -> Trained:
    *others, _random = given
    trained: Trained = _train(*others, stream(0, "always the same"))
    return trained


def _same_share(size: int, noise: float, _random: Random) -> NDArray[np.int64]:
    return discrete_gaussian(size, noise, stream(0, "always the same"))


def _retries_are_free(sound: Any) -> Any:
    def charge(self: Any, what: Any) -> None:
        if not (what.round == 1 and what.attempt):
            sound(self, what)

    return charge


def _largest_coordinate(update: NDArray[Any], bound: float) -> NDArray[Any]:
    return np.asarray(np.clip(update, -bound, bound))


def _unbounded(update: NDArray[Any], clip: float, levels: int) -> NDArray[np.int32]:
    return np.asarray(np.trunc(update * (levels / clip)), dtype=np.int32)


def _quarter(sound: Any) -> Any:
    return lambda *given: sound(*given) / 4


def _no_noise(size: int, _std: float, _random: Random) -> NDArray[np.float64]:
    return np.zeros(size)


def _upper_clip_only(_sound: Any) -> Any:
    def gain(backbone: Any, shared: Any, answers: Any, settings: Settings) -> float:
        total = sum(float(g.sum()) for g in _gains(backbone, shared, answers, settings, -np.inf))
        return total / counted_answers(settings)

    return gain


def _divided_by_own_count(_sound: Any) -> Any:
    def gain(backbone: Any, shared: Any, answers: Any, settings: Settings) -> float:
        gains = _gains(backbone, shared, answers, settings, -settings.evaluation_range)
        return sum(float(g.sum()) for g in gains) / len(answers)

    return gain


def _gains(backbone: Any, shared: Any, answers: Any, settings: Settings, low: float) -> Any:
    for batch in backbone.batches(answers):
        with backbone.using():
            before = evaluation._means(backbone.losses(batch))
        with backbone.using(shared):
            after = evaluation._means(backbone.losses(batch))
        gained = torch.nan_to_num(before - after, nan=max(low, -settings.evaluation_range))
        yield gained.clamp(low, settings.evaluation_range)


def _short_seed(_sound: Any) -> Any:
    def noise(size: int, std: float, random: Random) -> NDArray[np.float64]:
        chance = np.random.default_rng(int.from_bytes(random(SHORT), "little"))
        return chance.normal(0, std, size) if std else np.zeros(size)

    return noise


def _short_share(size: int, noise: float, random: Random) -> NDArray[np.int64]:
    return np.asarray(np.rint(_short_seed(None)(size, noise, random)), dtype=np.int64)


def _not_finite_passes(_sound: Any) -> Any:
    return lambda optimizer: len(optimizer.params[0].grad_sample)


def _other_delta(sound: Any) -> Any:
    return lambda events, _delta, *others: sound(events, OTHER_DELTA, *others)


def _release_at_other_delta(
    past: Any, settings: Settings, number: int, evaluations: Any = ()
) -> Any:
    return next_release(past, replace(settings, delta=OTHER_DELTA), number, evaluations)


OWN_DIVISOR = Swap(on_device, "private_steps", _own_count)
CLIP = training._PrivateOptimizer, "clip_and_accumulate"
PLANTED: dict[str, System] = {
    system.name: system
    for system in (
        # By how much a record moves an update.
        fault("clip-doubled", on_device, "_dp_settings", _looser),
        fault("extra-step", on_device, "_dp_settings", _one_step_more),
        fault("clip-per-layer", *CLIP, _per_layer),
        fault("clip-per-coordinate", *CLIP, _per_coordinate),
        System("own-divisor", swaps=(OWN_DIVISOR,)),
        fault("not-a-number", training, "_bounded_samples", _not_finite_passes),
        # The noise of an update.
        fault("record-noise-halved", training, "gaussian", _halved),
        System("record-noise-same", train_shared=_same_noise),
        fault("record-noise-16-bits", training, "gaussian", _short_seed),
        # By how much a person moves a sum.
        System(
            "user-clip-per-coordinate",
            clip_norm=_largest_coordinate,
            quantize_towards_zero=_unbounded,
        ),
        # The noise of a share.
        System("share-noise-halved", noise_share=_halved(discrete_gaussian)),
        System("share-noise-same", noise_share=_same_share),
        System("share-noise-16-bits", noise_share=_short_share),
        # By how much an answer moves a figure, and its noise.
        fault("figure-lower-clip-off", evaluation, "gain", _upper_clip_only),
        fault("figure-own-count", evaluation, "gain", _divided_by_own_count),
        System("figure-noise-off", figure_noise=_no_noise),
        System("figure-noise-16-bits", figure_noise=_short_seed(None)),
        # What is charged and stated.
        System(
            "wrong-delta",
            next_release=_release_at_other_delta,
            swaps=(Swap(participation, "epsilon", _other_delta),),
        ),
        fault("retries-uncharged", ledger.Ledger, "charge", _retries_are_free),
        fault("rho-quartered", participation, "user_rho", _quarter),
        fault("rho-quartered-everywhere", terms, "rho", _quarter),
    )
}
