"""Masks: the AES-256-CTR key stream as little-endian words, added mod 2^32 to a vector.

2^b divides 2^32, so masks made mod 2^32 cancel in the low b bits as well. AES-CTR is taken over
ChaCha20 because it is the faster of the two where the processor has AES instructions. A block of
the vector stays in the processor's cache while every mask is made and added.
"""

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from common.secagg.quantize import BLOCK, pack_block, packing_scratch

Masks: TypeAlias = Sequence[tuple[bytes, int]]
"""Keys of 32 bytes, full entropy, each used for one mask only; with +1 to add, -1 to subtract."""

_OPEN = 64  # ciphers open at a time
_ZEROS = memoryview(bytes(4 * BLOCK))


def add_masks(vector: NDArray[np.uint32], masks: Masks) -> None:
    """Add and subtract the masks, in place.

    Args:
        vector: One-dimensional, contiguous: [dimension].
        masks: Keys and signs.
    """
    for first in range(0, len(masks), _OPEN):
        add = _adder(masks[first : first + _OPEN])
        for part in _blocks(vector):
            add(part)


def masked_packed(ring: NDArray[np.uint32], masks: Masks, bits: int, header: bytes = b"") -> bytes:
    """`header`, then `pack` of the vector with all masks; the vector itself stays as it is.

    Args:
        ring: One-dimensional, contiguous: [dimension].
        masks: Keys and signs.
        bits: Of the modulus: 16, 24 or 32.
        header: What the bytes begin with, so that a message need not be copied together.
    """
    before = len(masks) - _OPEN
    if before > 0:
        ring = ring.copy()
        add_masks(ring, masks[:before])
    add, packed = _adder(masks[-_OPEN:]), BytesIO()
    packed.write(header)
    scratch, masked = packing_scratch(), np.empty(BLOCK, dtype=np.uint32)
    for part in _blocks(ring):
        block = masked[: part.size]
        block[:] = part
        add(block)
        packed.write(pack_block(block, bits, scratch))
    return packed.getvalue()


def _adder(masks: Masks) -> Callable[[NDArray[np.uint32]], None]:
    """What adds the next words of every mask to a block of at most BLOCK words."""
    streams = [(_stream(key), np.add if sign > 0 else np.subtract) for key, sign in masks]
    made = bytearray(4 * BLOCK)
    words = np.frombuffer(made, dtype="<u4")

    def add(block: NDArray[np.uint32]) -> None:
        zeros, mask = _ZEROS[: block.nbytes], words[: block.size]
        for stream, apply in streams:
            stream.update_into(zeros, made)
            apply(block, mask, out=block)

    return add


def _blocks(vector: NDArray[np.uint32]) -> Iterator[NDArray[np.uint32]]:
    for start in range(0, vector.size, BLOCK):
        yield vector[start : start + BLOCK]


def _stream(key: bytes) -> CipherContext:
    # The initial counter is fixed: each key comes from its own HKDF label and makes one stream.
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
