"""What a device asks of a round, whatever the server proposes."""

import math
from dataclasses import dataclass

from common.errors import ProtocolError
from common.secagg.parameters import DRAW_BITS, privacy_failure
from common.secagg.terms import RoundTerms


@dataclass(frozen=True, slots=True)
class Floor:
    """The least that a device accepts; its owner's setting, never the server's.

    Args:
        cohort: Fewest members a round may be planned for.
        least: Fewest members that a sum may be over.
        threshold: Fewest holders who together may rebuild a secret.
        bits: Fewest modulus bits.
        corrupt_share: Share of the cohort that the terms must tolerate as colluding; at least one
            member, unless it is 0.
        failure_bits: Colluders may expose a member with probability 2^-failure_bits at most, each
            time that it draws its holders.
    """

    cohort: int = 3
    least: int = 3
    threshold: int = 2
    bits: int = 16
    corrupt_share: float = 0.05
    failure_bits: float = DRAW_BITS

    def corrupt(self, cohort: int) -> int:
        """Colluding members that terms for `cohort` members must tolerate."""
        return max(1, math.floor(self.corrupt_share * cohort)) if self.corrupt_share else 0


DEFAULT_FLOOR = Floor()


def require_floor(terms: RoundTerms, floor: Floor) -> None:
    """Refuse valid terms that ask for less than the device does.

    Raises:
        ProtocolError: They do; the message names both values.
    """
    for name in ("cohort", "least", "threshold", "bits"):
        _require(name, getattr(terms, name), getattr(floor, name))
    _require("corrupt", terms.corrupt, floor.corrupt(terms.cohort))
    _require("privacy bits", -_failure(terms), floor.failure_bits)


def _failure(terms: RoundTerms) -> float:
    sizes = terms.cohort, terms.least, terms.corrupt
    return privacy_failure(*sizes, terms.neighbours, terms.threshold, terms.colluders)


def _require(name: str, offered: float, wanted: float) -> None:
    if not offered >= wanted:
        raise ProtocolError(
            f"The round offers {name} {offered:g}, this device asks for {wanted:g} at least.",
            "It is not taken part in; the device's floor is its owner's to lower.",
        )
