"""How much of everything an audit takes. Statistics decide it, not taste.

Gradient canaries and canary users: at least 1,000, and ε claimed at 1. A run whose accountant is
reset each round leaks √rounds times as much, so 25 rounds make a score 5 times as telling: with
1,000 canaries the bound then passes 1 in more than 99 % of audits. Two worlds: with n runs of each
told apart without a mistake, the bound at 95 % is ln((1 − x) / x) for x = 1 − 0.025^(1/n), 2.3 for
40 and 4.0 for 200. TPR at a false-positive rate f takes 10 / f strangers.
"""

from __future__ import annotations

from dataclasses import dataclass

CLAIMED_EPSILON = 1.0
DELTA = 1e-5
STRENGTH = 20.0  # of an unclipped canary, in units of the bound it is clipped to


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes.

    Attributes:
        canaries: Gradient canaries, record level.
        rounds: Rounds of the record-level run; so often a lying server asks devices for one.
        cohort: People in a round of the user-level run; the canaries are the honest among them.
        user_rounds: Rounds of the user-level run.
        runs: Runs of each of the two worlds.
        strangers: Examples nobody trained on, for membership inference.
        trials: Updates that reconstruction is tried on.
    """

    canaries: int
    rounds: int
    cohort: int
    user_rounds: int
    runs: int
    strangers: int
    trials: int


FULL = Scale(2000, 25, 1500, 25, 200, 10_000, 100)
QUICK = Scale(1000, 25, 1440, 2, 40, 2_000, 40)
