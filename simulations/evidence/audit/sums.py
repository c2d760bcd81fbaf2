"""The secure sum: does a lying server read one member's update?

The attacks are those of `privity-sim attacks`. An update counts as read when the guess is closer
to it than zeros are, or points its way.
"""

from __future__ import annotations

from collections.abc import Callable

from simulations.evidence.attacks.measure import AttackOutcome
from simulations.evidence.attacks.on_privity.seeds import short_seeds
from simulations.evidence.attacks.on_privity.shares import alive_and_dead
from simulations.evidence.audit.findings import Finding, judged
from simulations.evidence.audit.scale import Scale
from simulations.evidence.audit.system import System

SEEDS, SHARES = "secure sum, mask seeds", "secure sum, both shares"


def mask_seeds(system: System, _scale: Scale, _seed: int) -> list[Finding]:
    """Search the seed of the one mask that is left, given all but 16 of its bits."""
    tried = (
        "one mask left on an update; all but 16 bits of its 32-bit seed known; try all 2^16, "
        "take away the mask"
    )
    return [_finding(SEEDS, system, tried, short_seeds)]


def both_shares(system: System, _scale: Scale, _seed: int) -> list[Finding]:
    """Call one member alive, then dead, to be given both of its secrets."""
    tried = "call one member alive, then dead; rebuild its seed and its key from shares"
    return [_finding(SHARES, system, tried, alive_and_dead)]


def _finding(
    check: str, system: System, tried: str, attack: Callable[..., AttackOutcome]
) -> Finding:
    outcome = attack(system.steps.participant)
    error = outcome.measured["relative_error"]
    read = f"update read, with a relative error of {error:.0e}"
    return Finding(
        check,
        system.name,
        tried,
        read if outcome.succeeded else "nothing: the guess is further off than zeros",
        "no member's update is read",
        judged(system.name, refuted=outcome.succeeded),
        {"relative_error": float(f"{error:.1e}")} if outcome.succeeded else {},
    )
