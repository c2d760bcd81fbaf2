"""The one-run audit of both guarantees: a score for every canary, guesses, a bound on ε.

The numbers of guesses are fixed beforehand. For a Gaussian mechanism at ε = 1 the expected bound
is best with guesses for a tenth to a quarter of the canaries; without noise, with nearly all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulations.evidence.audit.bound import CONFIDENCE, count_right, several_counts_epsilon
from simulations.evidence.audit.findings import Finding, judged
from simulations.evidence.audit.scale import CLAIMED_EPSILON, DELTA

SHARES_GUESSED = (0.1, 0.25, 0.9)


def guess_counts(canaries: int) -> list[int]:
    """The even numbers of guesses that are tried."""
    return [2 * int(share * canaries / 2) for share in SHARES_GUESSED]


def one_run_finding(
    check: str, system: str, tried: str, scores: NDArray[np.float64], included: NDArray[np.bool_]
) -> Finding:
    """Guess by score and bound ε.

    Args:
        scores: Higher means more likely included: [canaries].
        included: What the coins said: [canaries].
    """
    outcomes = [(r, count_right(scores, included, r)) for r in guess_counts(len(scores))]
    bound = several_counts_epsilon(len(scores), outcomes, DELTA)
    shown = ", ".join(f"{right} of {guesses}" for guesses, right in outcomes)
    return Finding(
        check,
        system,
        tried,
        f"ε ≥ {bound:.2f} ({CONFIDENCE:.0%}); right guesses: {shown}",
        f"ε ≤ {CLAIMED_EPSILON:g} at δ = {DELTA:g}",
        judged(system, refuted=bound > CLAIMED_EPSILON),
        {
            "epsilon_lower": round(bound, 3),
            "epsilon_claimed": CLAIMED_EPSILON,
            "canaries": len(scores),
            **{f"right_of_{guesses}": right for guesses, right in outcomes},
        },
    )
