"""How many masking neighbours a member has, and how many of their shares rebuild a secret.

Server and device derive both from the same settings; a device refuses terms that differ.
"""

from __future__ import annotations

from common.config import Settings
from common.errors import RoundAbandonedError


def graph_size(settings: Settings, cohort: int) -> tuple[int, int]:
    """Neighbours k of each member, and the threshold t of them that rebuilds a secret.

    Raises:
        RoundAbandonedError: When t of k cannot be, or would let two disjoint groups of
            neighbours each rebuild a secret (2t > k + c with c ≥ 0).
    """
    neighbours = min(settings.neighbours or cohort - 1, cohort - 1)
    threshold = settings.threshold or -(-2 * neighbours // 3)
    if threshold > neighbours or 2 * threshold <= neighbours:
        raise RoundAbandonedError(
            f"a threshold of {threshold} does not fit {neighbours} neighbours "
            f"(it must be more than half of them and no more than all)."
        )
    return neighbours, threshold
