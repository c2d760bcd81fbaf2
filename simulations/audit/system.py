"""What is audited: the product's own functions, where a broken variant can take their place.

`device.py` puts them where the device calls them; nothing else is between a person's data and what
leaves. The secure sum is taken in the clear where only its value matters: it equals the plain sum
bit for bit, which the tests of `common/secagg` show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.budget import next_release
from client.device import Device
from client.ledger import Charge
from client.training import Trained, train_shared
from common.config import Settings
from common.privacy.accountant import Release
from common.privacy.noise import discrete_gaussian, gaussian
from common.randomness import Random
from common.secagg import Participant, RoundTerms
from common.secagg.quantize import clip_norm, quantize_towards_zero
from server.terms import plan_noise
from simulations.audit.findings import SOUND
from simulations.devices import SeededRandomness

AUDITOR = -2  # whose randomness the audit's own coins, people and secrets come from


@dataclass(frozen=True, slots=True)
class Swap:
    """One name of a module or class, and what is made of the sound part in its place."""

    place: Any
    name: str
    made: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class System:
    """The sound system by default.

    Attributes:
        name: `sound`, or the variant's.
        next_release: Record level: the noisy steps of the next round, by the ledger.
        train_shared: One round's training on one device.
        plan_noise: User level: the noise multiplier of the next round, by what was spent.
        clip_norm: User level: bound a whole update.
        quantize_towards_zero: User level: in levels, the bound kept.
        noise_share: User level: one member's share of the noise.
        figure_noise: The noise of an evaluation's figure.
        participant: A member of the secure sum.
        cost: How a device reckons a round by its ledger; None: as it does.
        swaps: What else is exchanged, wherever it is.
    """

    name: str = SOUND
    next_release: Callable[..., Release] = next_release
    train_shared: Callable[..., Trained] = train_shared
    plan_noise: Callable[[Settings, Sequence[float], int], float] = plan_noise
    clip_norm: Callable[..., NDArray[np.floating]] = clip_norm
    quantize_towards_zero: Callable[..., NDArray[np.int32]] = quantize_towards_zero
    noise_share: Callable[[int, float, Random], NDArray[np.int64]] = discrete_gaussian
    figure_noise: Callable[[int, float, Random], NDArray[np.float64]] = gaussian
    participant: type[Participant] = Participant
    cost: Callable[[Device, Settings, RoundTerms], Charge] | None = None
    swaps: tuple[Swap, ...] = ()


def stream(seed: int, purpose: str) -> Random:
    """Repeatable bytes for one purpose of an audit."""
    return SeededRandomness(seed, AUDITOR).stream(purpose)


def coins(count: int, random: Random) -> NDArray[np.bool_]:
    """Independent fair coins: [count]."""
    drawn = np.frombuffer(random(-(-count // 8)), dtype=np.uint8)
    return np.unpackbits(drawn, count=count).astype(np.bool_)
