"""Masks: the AES-256-CTR key stream as little-endian words, added mod 2^32 to a vector.

2^b divides 2^32, so masks made mod 2^32 cancel in the low b bits as well. AES-CTR is taken over
ChaCha20 because it is the faster of the two where the processor has AES instructions. The stream
is made and added in blocks that stay in the processor's cache.
"""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

_BLOCK_BYTES = 64 * 1024
_BLOCK_WORDS = _BLOCK_BYTES // 4
_ZEROS = bytes(_BLOCK_BYTES)


def add_mask(vector: NDArray[np.uint32], key: bytes, sign: int) -> None:
    """Add (sign +1) or subtract (sign -1) the mask of `key`, in place.

    Args:
        vector: One-dimensional, contiguous, uint32: [dimension].
        key: 32 bytes, full entropy, used for this one mask.
        sign: +1 or -1.
    """
    apply = np.add if sign > 0 else np.subtract
    stream = _stream(key)
    block = bytearray(_BLOCK_BYTES)
    words = np.frombuffer(block, dtype="<u4")
    for start in range(0, vector.size, _BLOCK_WORDS):
        part = vector[start : start + _BLOCK_WORDS]
        stream.update_into(_ZEROS[: part.nbytes], block)
        apply(part, words[: part.size], out=part)


def _stream(key: bytes) -> CipherContext:
    # The initial counter is fixed: each key comes from its own HKDF label and makes one stream.
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
