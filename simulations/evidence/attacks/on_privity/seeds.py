"""Against Privity: pair masks from a short seed, looked for as in Flower.

Mask keys have 256 bits and come from HKDF under the digest of the round. The attacker knows all
but 16 bits of what a 32-bit seed from the key would be, and tries them all in two ways: as
seeds of Flower's generator, and as mask keys that were cut to 32 bits.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode

import numpy as np
from numpy.typing import NDArray

from common.secagg import Participant, dequantize, from_ring
from simulations.evidence.attacks.measure import AttackOutcome, closest, synthetic_update
from simulations.evidence.attacks.on_privity.attacker import Attacker, mask, pair_key
from simulations.evidence.attacks.on_privity.broken import WEAK_BYTES, weak_key
from simulations.evidence.attacks.on_privity.round import BITS, MEMBERS, TERMS, VICTIM, PrivityRound
from simulations.evidence.attacks.short_seeds import (
    UNKNOWN_BITS,
    Words,
    candidates,
    first_outputs,
    fold,
)

HONEST = 2  # the one peer who does not collude
LOOKED_AT = 16  # coordinates; the seed that leaves the smallest ones is taken


def short_seeds(kind: type[Participant] = Participant) -> AttackOutcome:
    """Six of seven peers collude; one pair mask protects the victim, and its seed is searched."""
    run = PrivityRound(kind=kind).until(3)
    colluders = [m for m in MEMBERS if m not in (VICTIM, HONEST)]
    attacker = Attacker.of(run, colluders)
    attacker.seeds[VICTIM] = run.seeds[VICTIM]
    left, key = attacker.left(VICTIM, colluders), _key(run, attacker)
    masks = (_as_flower(left, key), _as_cut_key(left, key))
    guesses = [dequantize(_clear(left - m), TERMS.clip, TERMS.levels) for m in masks]
    how = f"most plausible of {len(masks)} x 2^{UNKNOWN_BITS} seeds"
    return closest(synthetic_update(VICTIM), guesses, how)


def _key(run: PrivityRound, attacker: Attacker) -> bytes:
    """The true key of the mask that is searched for; the attacker is given parts of it."""
    ends = sorted((m, attacker.publics[m]) for m in (VICTIM, HONEST))
    public = attacker.publics[HONEST]
    return pair_key(attacker.bound(VICTIM), run.privates[VICTIM], public, ends)


def _as_flower(left: Words, key: bytes) -> Words:
    """The best mask from NumPy's generator: [dimension]."""
    seeds = candidates(fold(urlsafe_b64encode(key)))
    best = _most_plausible(left, first_outputs(seeds, LOOKED_AT).T)
    return first_outputs(seeds[best : best + 1], left.size)[:, 0]


def _as_cut_key(left: Words, key: bytes) -> Words:
    """The best mask from a key of which only 32 bits were kept: [dimension]."""
    known = key[UNKNOWN_BITS // 8 : WEAK_BYTES]
    keys = [weak_key(n.to_bytes(UNKNOWN_BITS // 8, "big") + known) for n in range(2**UNKNOWN_BITS)]
    best = _most_plausible(left, np.stack([mask(key, LOOKED_AT) for key in keys]))
    return mask(keys[best], left.size)


def _most_plausible(left: Words, masks: Words) -> int:
    """The row that leaves the smallest coordinates; the victim has the lower id, so adds it."""
    assert VICTIM < HONEST
    return int(np.abs(_clear(left[:LOOKED_AT] - masks)).max(axis=1).argmin())


def _clear(ring: Words) -> NDArray[np.int64]:
    return from_ring(ring & np.uint32(2**BITS - 1), BITS)
