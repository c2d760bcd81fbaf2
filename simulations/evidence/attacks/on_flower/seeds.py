"""Against Flower: pair masks from a 32-bit seed.

The attacker is given all but 16 of the 28 bits that vary, and recognises the right seed by what it
uncovers: the weight and every coordinate of a quantised update are small.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

from simulations.evidence.attacks.measure import AttackOutcome, reconstruction, synthetic_update
from simulations.evidence.attacks.on_flower.round import (
    MEMBERS,
    MOD_RANGE,
    TARGET_RANGE,
    VICTIM,
    Masked,
    everyone,
    pair_secret,
    read,
    rebuilt,
    strip,
    until_masked,
)
from simulations.evidence.attacks.short_seeds import (
    UNKNOWN_BITS,
    VARYING_BITS,
    Words,
    candidates,
    first_outputs,
    fold,
)

HONEST = 2  # the one peer who does not collude
LOOKED_AT = 4  # coordinates; with the weight, a wrong seed passes with probability 2^-50


def short_seeds() -> AttackOutcome:
    """Six of seven peers collude; one pair mask protects the victim, and its seed is searched."""
    members = everyone()
    seen = until_masked(members)
    lawful = [member.unmask(MEMBERS, []).seeds[VICTIM] for member in members.values()]
    public = seen.keys[VICTIM][0]
    secrets = {n: pair_secret(members[n].private_key(), public) for n in MEMBERS if n != VICTIM}
    seeds = candidates(fold(secrets.pop(HONEST)))
    left = strip(seen.masked[VICTIM], VICTIM, rebuilt(lawful), secrets)
    start = perf_counter()
    found = _search(left, seeds)
    seconds = perf_counter() - start
    whole_min = seconds * 2 ** (VARYING_BITS - UNKNOWN_BITS) / 60
    how = f"one of 2^16 seeds found in {seconds:.2f} s (all 2^28: {whole_min:.0f} min on one core)"
    seed = found.to_bytes(4, "little")
    clear = strip(left, VICTIM, None, {HONEST: seed})
    return reconstruction(synthetic_update(VICTIM), read(clear), how)


def _search(left: Masked, seeds: Words) -> int:
    """The first seed whose mask leaves a plausible weight and update, else 0."""
    looked_at = np.concatenate([left[0], left[1][:LOOKED_AT]])
    masks = first_outputs(seeds, len(looked_at)).astype(np.int64)
    sign = 1 if VICTIM > HONEST else -1
    plausible = (looked_at[:, None] - sign * masks) % MOD_RANGE <= TARGET_RANGE
    (found,) = np.nonzero(plausible.all(axis=0))
    return int(seeds[found[0]]) if len(found) else 0
