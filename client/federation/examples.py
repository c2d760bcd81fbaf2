"""This device's examples: which are learnt from, which are held out, which a release is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from client.federation.device import Device, Randomness, SystemRandomness
from client.vault.store import Store
from common.privacy.noise import gaussian
from common.privacy.randomness import Random
from common.settings import RoundSettings
from common.system.signals import ENDS
from common.tasks.sets import KEY_BYTES, window, within
from common.tasks.task import Example

if TYPE_CHECKING:
    from common.privacy.accountant import Release

KEY = "sets-key"


def sets_key(store: Store, randomness: Randomness | None = None) -> bytes:
    """The device's own key for dividing examples; made when it is first needed, then kept."""
    with store.together():
        key = store.get(KEY)
        if key is None:
            key = (randomness or SystemRandomness()).stream("sets")(KEY_BYTES)
            store.put(KEY, key)
    return key


@dataclass(frozen=True, slots=True)
class Chosen:
    """The examples that one release is about."""

    train: Sequence[Example] = field(repr=False)
    heldout: Sequence[Example] = field(repr=False)


def readable(
    device: Device, encode: Callable[[Example], object], examples: Sequence[Example]
) -> list[Example]:
    """Those that the model's tokenizer can read, each tried by itself.

    One that cannot be read is left out alone: if it took others with it, one example more or less
    would move the sum by all of theirs.
    """
    kept = []
    for example in examples:
        try:
            encode(example)
        except ENDS:
            raise
        except BaseException as error:
            device.failed(error)
        else:
            kept.append(example)
    return kept


def for_release(
    device: Device, rounds: RoundSettings, count: Release | None, random: Random
) -> Chosen:
    """The examples in the window of a release, by how many the device holds, with noise.

    Args:
        count: What the noisy number is charged as; None: it is exact.
        random: Source of the noise.
    """
    held = len(device.train) + len(device.heldout)
    noise = gaussian(1, count.noise_multiplier, random)[0] if count else 0.0
    share = window(rounds.examples, held + noise)
    key = sets_key(device.store, device.randomness)
    return Chosen(within(device.train, key, share), within(device.heldout, key, share))
