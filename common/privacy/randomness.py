"""Where bytes of secrets and noise come from, and numbers made of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Random = Callable[[int], bytes]
"""So many fresh bytes: `os.urandom` on a real device, a seeded stream in a simulation."""


def words(count: int, random: Random) -> NDArray[np.uint64]:
    """Uniform 64-bit integers: [count]."""
    return np.frombuffer(random(8 * count), dtype="<u8")
