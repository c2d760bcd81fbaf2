"""Two worlds: runs with and without one record, told apart by a threshold; what that says of ε."""

from __future__ import annotations

from simulations.evidence.audit.bound import CONFIDENCE, two_worlds_epsilon
from simulations.evidence.audit.findings import Finding, judged
from simulations.evidence.audit.scale import CLAIMED_EPSILON, DELTA
from simulations.evidence.audit.system import System

ROUNDING = 1e-3  # relative, of a shift that is computed in float32


def two_worlds_finding(
    check: str, system: System, tried: str, counts: tuple[int, int, int], shift: tuple[float, str]
) -> Finding:
    """Bound ε by how often a guess was wrong.

    Args:
        tried: What the guess was made from.
        counts: False alarms, misses, and runs of each world.
        shift: How far the record moves the result without noise, and in what unit; one is claimed.
    """
    (false_alarms, misses, runs), (moved, unit) = counts, shift
    bound = two_worlds_epsilon(false_alarms, misses, runs, DELTA)
    return Finding(
        check,
        system.name,
        f"with and without one record, {runs} runs each; {tried}",
        f"ε ≥ {bound:.2f} ({CONFIDENCE:.0%}); {false_alarms + misses} of {2 * runs} guesses wrong; "
        f"the record moves it by {moved:.1f} {unit}",
        f"ε ≤ {CLAIMED_EPSILON:g} at δ = {DELTA:g}; moves it by 1 {unit} at most",
        judged(system.name, refuted=bound > CLAIMED_EPSILON or not moved <= 1 + ROUNDING),
        {
            "epsilon_lower": round(bound, 3),
            "epsilon_claimed": CLAIMED_EPSILON,
            "false_alarms": false_alarms,
            "misses": misses,
            "runs_each": runs,
            "shift": round(moved, 3),
        },
    )
