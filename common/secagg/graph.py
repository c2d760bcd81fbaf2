"""Who shares masks with whom: a k-regular graph over a random order of the members.

A Harary graph joins each position on a ring to its k/2 nearest on either side, and for odd k to
the position opposite; the random permutation makes the neighbours random (Bell et al. 2020,
section 3, https://eprint.iacr.org/2020/704). The seed is a digest of the terms and of all keys,
so it is fixed only after every key is.
"""

import hashlib
from collections.abc import Iterator, Sequence

from common.errors import ProtocolError

_DOMAIN = b"privity/secagg/v1/graph\x00"


def neighbours(members: Sequence[int], k: int, seed: bytes) -> dict[int, tuple[int, ...]]:
    """Draw the graph.

    Args:
        members: Distinct member ids; their order does not matter.
        k: Degree, at most len(members) - 1.
        seed: Digest from which the permutation is drawn.

    Returns:
        For each member its k neighbours in ascending order. Where k and the number of members
        are both odd no k-regular graph exists, and the degree is k - 1.

    Raises:
        ProtocolError: Ids repeat, or k does not fit.
    """
    ring = sorted(set(members))
    if len(ring) != len(members):
        raise ProtocolError(f"Members {list(members)} are not distinct.")
    if not 0 <= k < len(ring):
        raise ProtocolError(f"{k} neighbours do not fit {len(ring)} members.")
    _shuffle(ring, seed)
    steps = _steps(len(ring), k)
    return {
        member: tuple(sorted(ring[(at + step) % len(ring)] for step in steps))
        for at, member in enumerate(ring)
    }


def _steps(size: int, k: int) -> list[int]:
    """Ring distances to the neighbours, closed under negation mod size."""
    steps = [step for near in range(1, k // 2 + 1) for step in (near, size - near)]
    if k % 2 and size % 2 == 0:
        steps.append(size // 2)
    return steps


def _shuffle(items: list[int], seed: bytes) -> None:
    """Fisher-Yates, in place."""
    words = _words(seed)
    for last in range(len(items) - 1, 0, -1):
        other = _below(last + 1, words)
        items[last], items[other] = items[other], items[last]


def _below(limit: int, words: Iterator[int]) -> int:
    """A uniform integer in [0, limit): words beyond the last whole multiple are rejected."""
    whole = 2**64 - 2**64 % limit
    return next(word for word in words if word < whole) % limit


def _words(seed: bytes) -> Iterator[int]:
    """64-bit words of SHA-256 in counter mode."""
    counter = 0
    while True:
        block = hashlib.sha256(_DOMAIN + seed + counter.to_bytes(8, "big")).digest()
        yield from (int.from_bytes(block[at : at + 8], "big") for at in range(0, 32, 8))
        counter += 1
