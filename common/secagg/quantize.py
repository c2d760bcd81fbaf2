"""Real vectors to integers mod 2^b and back.

Rounding is to nearest and deterministic; a coordinate outside [-clip, clip] is clipped and counted.
`levels_for` gives the finest grid on which no sum over the cohort can wrap.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from common.errors import DecodeError, InputError

Floats: TypeAlias = NDArray[np.floating[Any]]
Integers: TypeAlias = NDArray[np.integer[Any]]


def quantize(update: Floats, clip: float, levels: int) -> tuple[NDArray[np.int32], int]:
    """Round x / clip * levels to the nearest integer (halves to even) after clipping x.

    Args:
        update: Values in units of the parameter, any shape.
        clip: Clip range per coordinate, in the same units.
        levels: Integer that stands for `clip`.

    Returns:
        Integers in [-levels, levels] of the same shape, and how many coordinates were clipped.

    Raises:
        InputError: A value is not finite.
    """
    if not np.isfinite(update).all():
        raise InputError("The update has values that are not finite.", "Lower the learning rate.")
    scaled = update.astype(np.float64)
    clipped = int(np.count_nonzero(np.abs(scaled) > clip))
    np.clip(scaled, -clip, clip, out=scaled)
    scaled /= clip
    scaled *= levels
    np.rint(scaled, out=scaled)
    return scaled.astype(np.int32), clipped


def dequantize(int_sum: Integers, clip: float, levels: int) -> NDArray[np.float64]:
    """The sum in units of the parameter."""
    return int_sum.astype(np.float64) * (clip / levels)


def to_ring(ints: Integers, bits: int) -> NDArray[np.uint32]:
    """Integers mod 2^bits, as representatives in [0, 2^bits)."""
    ring: NDArray[np.uint32] = (ints.astype(np.int64) & (2**bits - 1)).astype(np.uint32)
    return ring


def from_ring(total: NDArray[np.uint32], bits: int) -> NDArray[np.int64]:
    """The centred representatives in [-2^(bits-1), 2^(bits-1)) of elements mod 2^bits."""
    half = 2 ** (bits - 1)
    wide = total.astype(np.int64) & (2**bits - 1)
    centred: NDArray[np.int64] = ((wide + half) & (2**bits - 1)) - half
    return centred


def levels_for(cohort: int, bits: int) -> int:
    """The most levels with which no sum over `cohort` members wraps.

    Raises:
        InputError: Not even one level fits.
    """
    levels: int = (2 ** (bits - 1) - 1) // cohort
    if levels < 1:
        raise InputError(f"{cohort} members do not fit {bits} bits.", "Use a larger modulus.")
    return levels


def pack(ring: NDArray[np.uint32], bits: int) -> bytes:
    """The low `bits` bits of each element in bits/8 little-endian bytes."""
    words = np.ascontiguousarray(ring, dtype="<u4")
    raw = words.view(np.uint8).reshape(-1, 4)  # [dimension, byte]
    return raw[:, : bits // 8].tobytes()


def unpack(data: bytes, bits: int, dimension: int) -> NDArray[np.uint32]:
    """Read what `pack` wrote: `dimension` elements in [0, 2^bits).

    Raises:
        DecodeError: The length is not dimension * bits / 8.
    """
    width = bits // 8
    if len(data) != dimension * width:
        raise DecodeError(f"Packed vector of {len(data)} bytes, expected {dimension * width}.")
    raw = np.zeros((dimension, 4), dtype=np.uint8)
    raw[:, :width] = np.frombuffer(data, dtype=np.uint8).reshape(dimension, width)
    return raw.view("<u4").reshape(dimension).astype(np.uint32, copy=False)
