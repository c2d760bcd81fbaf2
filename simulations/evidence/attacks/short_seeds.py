"""Seeds of 32 bits: what Flower makes of a key, and what NumPy's generator makes of many seeds.

Flower folds the 44 characters of a base64 key into 32 bits and seeds RandomState with them. The
top bit of each character is 0, so 28 bits vary (issue 7522 of its repository).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UNKNOWN_BITS, VARYING_BITS = 16, 28
_CONSTANT_BITS = 0x80808080
_MULTIPLIER, _MIDDLE = 1812433253, 397  # of MT19937

Words = NDArray[np.uint32]


def fold(secret: bytes) -> int:
    """The 32-bit seed that Flower makes of a secret."""
    return int(np.bitwise_xor.reduce(np.frombuffer(secret, dtype="<u4")))


def candidates(true: int) -> Words:
    """All seeds that agree with the true one in all but 16 of the bits that vary: [2^16]."""
    unknown = _spread(np.arange(2**UNKNOWN_BITS, dtype=np.uint32))
    return np.uint32(true & ~int(unknown[-1])) | unknown


def first_outputs(seeds: Words, count: int) -> Words:
    """First numbers of RandomState for many seeds at once: [count, seeds].

    MT19937 (Matsumoto and Nishimura 1998): output i needs words i, i + 1 and i + 397 of the
    state, so most of it is never kept.
    """
    state, kept = seeds, {0: seeds}
    for at in range(1, _MIDDLE + count):
        state = np.uint32(_MULTIPLIER) * (state ^ (state >> np.uint32(30))) + np.uint32(at)
        kept |= {at: state} if at <= count or at >= _MIDDLE else {}
    return np.stack([_output(kept[at], kept[at + 1], kept[at + _MIDDLE]) for at in range(count)])


def _output(word: Words, following: Words, far: Words) -> Words:
    """Twist and temper."""
    y = (word & np.uint32(0x80000000)) | (following & np.uint32(0x7FFFFFFF))
    y = far ^ (y >> np.uint32(1)) ^ ((y & np.uint32(1)) * np.uint32(0x9908B0DF))
    y ^= y >> np.uint32(11)
    y ^= (y << np.uint32(7)) & np.uint32(0x9D2C5680)
    y ^= (y << np.uint32(15)) & np.uint32(0xEFC60000)
    tempered: Words = y ^ (y >> np.uint32(18))
    return tempered


def _spread(values: Words) -> Words:
    """The low 16 bits of each value on the lowest positions that vary."""
    places = [at for at in range(32) if not _CONSTANT_BITS >> at & 1][:UNKNOWN_BITS]
    spread = np.zeros_like(values)
    for nth, at in enumerate(places):
        spread |= (values >> np.uint32(nth) & np.uint32(1)) << np.uint32(at)
    return spread
