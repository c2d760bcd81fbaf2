"""Systems that are broken on purpose, each in one way that real code has been.

They live here alone; the product has no switch for any of them. Nothing in the audit asks a system
what it is: each must be told from the sound one by what comes out of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.federation.budget import cost_of, next_release
from client.federation.device import Device
from client.federation.steps import SOUND as STEPS
from client.learning.training import Trained
from client.vault.ledger import Charge
from client.vault.store import Store
from common.adapter import lora
from common.adapter.plan import Vector
from common.learning.backbone import Backbone
from common.privacy.accountant import Release
from common.privacy.randomness import Random
from common.secagg import RoundTerms
from common.settings import RoundSettings, Settings, UserLevel
from server.round.noise_plan import plan_noise
from simulations.evidence.attacks.on_privity.broken import BrokenRevealsBoth, BrokenWeakSeeds
from simulations.evidence.audit.faults import PLANTED, fault

UNCLIPPED = 1e6  # a bound that nothing reaches


def _trained_without_noise(*given: Any, **parts: Any) -> Trained:
    *others, release, random = given
    return STEPS.train_shared(*others, replace(release, noise_multiplier=0.0), random, **parts)


def _no_share(size: int, _noise: float, _random: Random) -> NDArray[np.int64]:
    return np.zeros(size, dtype=np.int64)


def _trained_without_clipping(*given: Any, **parts: Any) -> Trained:
    """The noise stays what it was; only the bound on a gradient is gone."""
    *others, settings, release, random = given
    sigma = release.noise_multiplier * settings.record.max_grad_norm / UNCLIPPED
    loose = settings.but(max_grad_norm=UNCLIPPED)
    return STEPS.train_shared(
        *others, loose, replace(release, noise_multiplier=sigma), random, **parts
    )


def _no_noise(size: int, _std: float, _random: Random) -> NDArray[np.float64]:
    return np.zeros(size)


def _unclipped(update: Vector, _bound: float) -> Vector:
    return update


def _unbounded_levels(update: Vector, clip: float, levels: int) -> NDArray[np.int32]:
    return np.asarray(np.trunc(update * (levels / clip)), dtype=np.int32)


def _forgetful_release(
    _past: Sequence[Release], settings: Settings, _number: int, _evaluations: object = ()
) -> Release:
    """Plan each round as if it were the only one."""
    return next_release([], settings.but(rounds=1), 1)


def _forgetful_noise(
    rounds: RoundSettings, user: UserLevel, _spent: Sequence[float], _number: int
) -> float:
    return plan_noise(replace(rounds, count=1), user, (), 1)


def _forgetful_cost(device: Device, settings: Settings, terms: RoundTerms) -> Charge:
    """By an empty ledger; what is charged goes into the device's own, which nobody reads."""
    empty = Store(sqlite3.connect(":memory:", isolation_level=None), "memory")
    return cost_of(replace(device, store=empty), settings, terms)


def _trained_with_personal(backbone: Backbone, *given: Any, **parts: Any) -> Trained:
    """The personal adapter, fitted without privacy, takes part in the forward passes."""
    leaking: Any = _PersonalLeftOn(backbone)
    return STEPS.train_shared(leaking, *given, **parts)


class _PersonalLeftOn:
    """A backbone under whose shared adapter the personal one stays as it is."""

    def __init__(self, sound: Backbone) -> None:
        self._sound = sound

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sound, name)

    @contextmanager
    def using(self, shared: Vector) -> Iterator[None]:
        """Forward passes inside see both."""
        model = self._sound.model
        with self._sound.using(shared), lora.active(model, lora.SHARED, lora.PERSONAL):
            yield


VARIANTS = {
    "noise-off": fault(
        "noise-off",
        train_shared=_trained_without_noise,
        noise_share=_no_share,
        figure_noise=_no_noise,
    ),
    "clipping-off": fault(
        "clipping-off",
        train_shared=_trained_without_clipping,
        clip_norm=_unclipped,
        quantize_towards_zero=_unbounded_levels,
    ),
    "accountant-reset": replace(
        fault("accountant-reset", next_release=_forgetful_release), plan_noise=_forgetful_noise
    ),
    "ledger-forgets": fault("ledger-forgets", cost=_forgetful_cost),
    "personal-left-on": fault("personal-left-on", train_shared=_trained_with_personal),
    "weak-mask-seed": fault("weak-mask-seed", participant=BrokenWeakSeeds),
    "both-shares": fault("both-shares", participant=BrokenRevealsBoth),
    **PLANTED,
}
