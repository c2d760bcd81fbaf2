"""Real vectors to integers mod 2^b, packed into bytes, and back.

Everything runs block by block: a block and its scratch stay in the processor's cache, so a vector
is read from memory once and written once. A coordinate is rounded after x · (levels / clip) in
double precision; `levels_for` gives the finest grid on which no sum over the cohort can wrap.

`quantize_towards_zero` is for updates whose L2 norm is bounded: rounding towards zero never makes
a coordinate larger, so the integers keep the bound (Kairouz, Liu and Steinke 2021,
https://arxiv.org/abs/2102.06387, need a bound that holds after rounding).
"""

import math
from collections.abc import Iterator
from io import BytesIO
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from common.errors import DecodeError, InputError

Floats: TypeAlias = NDArray[np.floating[Any]]
Integers: TypeAlias = NDArray[np.integer[Any]]
Words: TypeAlias = NDArray[np.uint32]
Bytes: TypeAlias = NDArray[np.uint8]

BLOCK = 32 * 1024  # elements: 128 KiB of words, an even number

_NORM_SLACK = 2.0**-20  # a float32 vector scaled to a bound is off by at most 2^-24 of it


def quantize(update: Floats, clip: float, levels: int) -> tuple[NDArray[np.int32], int]:
    """Round x · (levels / clip) to the nearest integer (halves to even) after clipping x.

    Args:
        update: Values in units of the parameter, any shape.
        clip: Clip range per coordinate, in the same units.
        levels: Integer that stands for `clip`.

    Returns:
        Integers in [-levels, levels] of the same shape, and how many coordinates were clipped.

    Raises:
        InputError: A value is not finite.
    """
    ints = np.empty(update.size, dtype=np.int32)
    clipped = sum(_quantize_blocks(update.reshape(-1), clip, levels, ints))
    return ints.reshape(update.shape), clipped


def quantize_to_ring(update: Floats, clip: float, levels: int, bits: int) -> tuple[Words, int]:
    """`quantize`, with the integers mod 2^bits as `to_ring` gives them, in one pass.

    Raises:
        InputError: A value is not finite.
    """
    ring = np.empty(update.size, dtype=np.uint32)
    clipped = 0
    blocks = _quantize_blocks(update.reshape(-1), clip, levels, ring.view(np.int32))
    for part, count in zip(_blocks(ring.size), blocks, strict=True):
        ring[part] &= np.uint32(2**bits - 1)
        clipped += count
    return ring.reshape(update.shape), clipped


def clip_norm(update: Floats, bound: float) -> Floats:
    """The update scaled down to an L2 norm of `bound`; the update itself if it is no longer.

    Norms are computed in double precision. The result has the type of the update, and its norm
    is that bound up to the rounding of its coordinates.

    Raises:
        InputError: A value, or the norm in units of the bound, is not finite.
    """
    ratio = _norm(update, bound)
    if ratio <= 1:
        return update
    shorter = np.empty(update.size, dtype=update.dtype)
    flat = update.reshape(-1)
    for part in _blocks(flat.size):
        shorter[part] = flat[part].astype(np.float64) / ratio
    return shorter.reshape(update.shape)


def quantize_towards_zero(update: Floats, bound: float, levels: int) -> NDArray[np.int32]:
    """Integers of x · (levels / bound) rounded towards zero; their L2 norm is at most `levels`.

    The norm is checked in exact integers. Where floating-point rounding made it larger, all
    coordinates shrink by a unit or more in their last place and are rounded again.

    Args:
        update: Values of any shape with an L2 norm of at most `bound`, as `clip_norm` gives.
        bound: L2 norm in units of the parameter.
        levels: Integer that stands for `bound`, at most 2^30.

    Raises:
        InputError: A value is not finite, or the update is longer than `bound`.
    """
    ratio = _norm(update, bound)
    if ratio > 1 + _NORM_SLACK:
        raise InputError(
            f"The update's L2 norm is {ratio:.9g} times its bound of {bound:.9g}.",
            "Clip it with clip_norm first.",
        )
    flat, ints = update.reshape(-1), np.empty(update.size, dtype=np.int32)
    scale, shrink = _scale(bound * max(ratio, 1.0), levels), 2.0**-54
    while _truncate(flat, scale, ints) > levels**2:
        shrink *= 2
        scale *= 1 - shrink
    return ints.reshape(update.shape)


def dequantize(int_sum: Integers, clip: float, levels: int) -> NDArray[np.float64]:
    """The sum in units of the parameter."""
    return int_sum.astype(np.float64) * (clip / levels)


def to_ring(ints: Integers, bits: int) -> Words:
    """Integers mod 2^bits, as representatives in [0, 2^bits)."""
    ring = ints.astype(np.uint32)
    ring &= np.uint32(2**bits - 1)
    return ring


def from_ring(total: Words, bits: int) -> NDArray[np.int64]:
    """The centred representatives in [-2^(bits-1), 2^(bits-1)) of elements mod 2^bits."""
    unused = 32 - bits
    centred = (total << np.uint32(unused)).view(np.int32)  # an element's sign becomes its word's
    centred >>= np.int32(unused)
    return centred.astype(np.int64)


def levels_for(cohort: int, bits: int) -> int:
    """The most levels with which no sum over `cohort` members wraps.

    Raises:
        InputError: Not even one level fits.
    """
    levels: int = (2 ** (bits - 1) - 1) // cohort
    if levels < 1:
        raise InputError(f"{cohort} members do not fit {bits} bits.", "Use a larger modulus.")
    return levels


def pack(ring: Words, bits: int) -> bytes:
    """The low `bits` bits (16, 24 or 32) of each element in bits/8 little-endian bytes."""
    packed, scratch = BytesIO(), packing_scratch()
    for part in _blocks(ring.size):
        packed.write(pack_block(ring[part], bits, scratch))
    return packed.getvalue()


def unpack(data: bytes, bits: int, dimension: int) -> Words:
    """Read what `pack` wrote: `dimension` elements in [0, 2^bits).

    Raises:
        DecodeError: The length is not dimension * bits / 8.
    """
    _require_length(data, bits, dimension)  # before memory is taken for what the sender claims
    words = np.zeros(dimension, dtype=np.uint32)
    add_packed(words, data, bits)
    return words


def add_packed(total: Words, packed: bytes | memoryview, bits: int) -> None:
    """Add what `pack` wrote to a vector of the same dimension, in place, mod 2^32.

    Raises:
        DecodeError: The length is not that of the vector.
    """
    _require_length(packed, bits, total.size)
    width = bits // 8
    raw = np.frombuffer(packed, dtype=np.uint8)
    scratch, words = packing_scratch(), np.empty(BLOCK, dtype=np.uint32)
    for part in _blocks(total.size):
        summand = words[: total[part].size]
        _unpack_block(raw[part.start * width : part.stop * width], bits, scratch, summand)
        total[part] += summand


def packing_scratch() -> Bytes:
    """Room for one block at the widest."""
    return np.empty(4 * BLOCK, dtype=np.uint8)


def pack_block(block: Words, bits: int, scratch: Bytes) -> memoryview:
    """`pack` for at most BLOCK elements, without new memory: [elements * bits / 8].

    The result is part of `scratch`, or of `block` itself where nothing is left out.
    """
    words, width = np.ascontiguousarray(block, dtype="<u4"), bits // 8
    raw = words.view(np.uint8)
    if width == 4:
        return raw.data
    packed = scratch[: words.size * width]
    if width == 2:
        packed.view("<u2")[:] = words
    else:
        for byte in range(width):  # in the cache faster than shifting and joining whole words
            packed[byte::width] = raw[byte::4]
    return packed.data


def _unpack_block(raw: Bytes, bits: int, scratch: Bytes, words: Words) -> None:
    if bits != 24:
        words[:] = raw.view(f"<u{bits // 8}")
        return
    scratch[: raw.size] = raw  # the last word is read one byte beyond
    words[:] = np.ndarray(words.shape, "<u4", scratch.data, strides=(3,))
    words &= np.uint32(2**24 - 1)


def _quantize_blocks(
    flat: Floats, clip: float, levels: int, ints: NDArray[np.int32]
) -> Iterator[int]:
    """After each block that was written to `ints`, how many of its coordinates were clipped."""
    scale, wide = _scale(clip, levels), np.empty(BLOCK, dtype=np.float64)
    for part in _blocks(flat.size):
        values = flat[part]
        scaled = wide[: values.size]
        clipped = _clip_block(values, clip, scaled)
        scaled *= scale
        ints[part] = np.rint(scaled, out=scaled)
        yield clipped


def _clip_block(values: Floats, clip: float, clipped: NDArray[np.float64]) -> int:
    low, high = float(values.min()), float(values.max())  # not a number if any value is not
    clipped[:] = values
    if -clip <= low and high <= clip:
        return 0
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _not_finite()
    count = int(np.count_nonzero(np.abs(clipped) > clip))
    np.clip(clipped, -clip, clip, out=clipped)
    return count


def _truncate(flat: Floats, scale: float, ints: NDArray[np.int32]) -> int:
    """Write x · scale rounded towards zero; the squared norm of the integers, exactly."""
    squares, wide = 0, np.empty(BLOCK, dtype=np.float64)
    for part in _blocks(flat.size):
        scaled = wide[: flat[part].size]
        scaled[:] = flat[part]
        scaled *= scale
        ints[part] = scaled
        whole = ints[part].astype(np.int64)
        squares += int(np.dot(whole, whole))  # far below 2^63: about levels^2 <= 2^60
    return squares


def _norm(update: Floats, bound: float) -> float:
    """L2 norm in units of `bound`."""
    squares, flat = 0.0, update.reshape(-1)
    for part in _blocks(flat.size):
        scaled = flat[part] / np.float64(bound)
        squares += float(np.dot(scaled, scaled))
    if not math.isfinite(squares):
        raise _not_finite()
    return math.sqrt(squares)


def _scale(clip: float, levels: int) -> float:
    scale = levels / clip if clip > 0 else math.inf
    if not math.isfinite(scale):
        raise InputError(f"{levels} levels cannot stand for {clip}.", "Use a larger clip range.")
    return scale


def _blocks(size: int) -> Iterator[slice]:
    for start in range(0, size, BLOCK):
        yield slice(start, min(start + BLOCK, size))


def _not_finite() -> InputError:
    return InputError("The update has values that are not finite.", "Lower the learning rate.")


def _require_length(data: bytes | memoryview, bits: int, dimension: int) -> None:
    expected = dimension * (bits // 8)
    if len(data) != expected:
        raise DecodeError(f"Packed vector of {len(data)} bytes, expected {expected}.")
