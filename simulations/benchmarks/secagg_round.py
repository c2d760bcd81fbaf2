"""The round in which product and peer are measured: same graph, same member, same update."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from common.config import Settings
from common.graph import graph_size

Update: TypeAlias = NDArray[np.float32]

DEFAULTS = Settings()
MEMBERS = 8
NEIGHBOURS, THRESHOLD = graph_size(DEFAULTS, MEMBERS)
TIMED = 3  # the member whose work is timed: some neighbours come before it, some after
DEVIATION = 0.01


def synthetic_update(dimension: int) -> Update:
    """A vector such as training sends: [dimension], float32."""
    generator = np.random.default_rng(0)
    return generator.standard_normal(dimension, dtype=np.float32) * np.float32(DEVIATION)
