"""What a device's part in a round is made of: the functions that can be given to it from outside.

A device has the product's own, `SOUND`, unless it is made with others. Nothing on a real device
does that; the audit, tests and benchmarks exchange a part with `dataclasses.replace`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from client.federation.budget import cost_of, next_release
from client.federation.gain import gain
from client.learning.training import Trained, train_shared
from client.vault.ledger import Charge
from common.adapter.plan import Vector
from common.learning.backbone import Backbone, Prepared, backbone_for
from common.privacy import dp_sgd
from common.privacy.accountant import Release, epsilon
from common.privacy.noise import discrete_gaussian, gaussian
from common.privacy.randomness import Random
from common.rounds.round_terms import user_rho
from common.secagg import Participant, RoundTerms
from common.secagg.quantize import clip_norm, quantize_towards_zero
from common.settings import Settings

if TYPE_CHECKING:
    from client.federation.device import Device


@dataclass(frozen=True, slots=True)
class Steps:
    """The parts of one device's round.

    Attributes:
        participant: A member of the secure sum.
        backbone: The base model with its adapters, as the settings name it.
        cost: What a round will cost by the device's ledger.
        next_release: Record level: the noisy steps that the ledger leaves room for.
        epsilon: Record level: what releases come to, at a δ, by an accountant.
        user_rho: User level: what a round costs, as zCDP ρ.
        gain: What the published adapter gains on held-out answers, in nats.
        figure_noise: The noise of that figure.
        train_shared: One round's training; takes `steps`, which are `private`.
        private: What a noisy step of it is made of.
        clip_norm: User level: bounds a whole update.
        quantize_towards_zero: User level: in levels, the bound kept.
        noise_share: User level: this device's share of the noise.
    """

    participant: type[Participant] = Participant
    backbone: Callable[[Settings], Backbone] = backbone_for
    cost: Callable[[Device, Settings, RoundTerms], Charge] = cost_of
    next_release: Callable[..., Release] = next_release
    epsilon: Callable[[Sequence[Release], float, str], float] = epsilon
    user_rho: Callable[[RoundTerms], float] = user_rho
    gain: Callable[[Backbone, Vector, Sequence[Prepared], float, int], float] = gain
    figure_noise: Callable[[int, float, Random], NDArray[np.float64]] = gaussian
    train_shared: Callable[..., Trained] = train_shared
    private: dp_sgd.StepParts = dp_sgd.SOUND
    clip_norm: Callable[[Vector, float], NDArray[np.floating]] = clip_norm
    quantize_towards_zero: Callable[..., NDArray[np.int32]] = quantize_towards_zero
    noise_share: Callable[[int, float, Random], NDArray[np.int64]] = discrete_gaussian


SOUND = Steps()
