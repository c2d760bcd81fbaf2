"""What one check found, in words for a table and in figures for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SOUND = "sound"
HOLDS, BROKEN = "holds", "BROKEN"  # the sound system
CAUGHT, MISSED = "caught", "MISSED"  # a variant broken on purpose
SHOWN = "for comparison"  # nothing is claimed


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the audit.

    Attributes:
        check: What was attacked, in a few words.
        system: `sound`, or the name of the broken variant.
        tried: What the attacker did.
        measured: What came of it.
        claimed: What the system promises about it.
        verdict: One of the five above.
        figures: Numbers behind `measured` and `claimed`; units in the names.
        power: The smallest deviation that is caught with 99 %, in words.
    """

    check: str
    system: str
    tried: str
    measured: str
    claimed: str
    verdict: str
    figures: Mapping[str, float] = field(default_factory=dict)
    power: str = ""

    @property
    def promised(self) -> str:
        """What is claimed and, where it is known, which deviation from it would be seen."""
        if not self.power or self.system != SOUND:
            return self.claimed
        return f"{self.claimed}. Seen with 99 %: {self.power}"


def judged(system: str, *, refuted: bool) -> str:
    """The verdict when a claim was, or was not, refuted by measurement."""
    if system == SOUND:
        return BROKEN if refuted else HOLDS
    return CAUGHT if refuted else MISSED


@dataclass(frozen=True, slots=True)
class AuditReport:
    """All findings of one audit.

    Attributes:
        variants: Names of the broken variants that were tried.
        left_out: What `--quick` leaves out, in words.
    """

    seed: int
    quick: bool
    variants: tuple[str, ...]
    findings: tuple[Finding, ...]
    left_out: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def broken(self) -> list[Finding]:
        """Claims of the sound system that measurement refuted."""
        return [finding for finding in self.findings if finding.verdict == BROKEN]

    @property
    def missed(self) -> list[Finding]:
        """Broken variants that measurement did not tell from the sound system."""
        return [finding for finding in self.findings if finding.verdict == MISSED]

    @property
    def exit_code(self) -> int:
        """1 when the sound system failed, or when the audit proved blind to a variant."""
        return int(bool(self.broken or self.missed))

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain JSON values; only `seconds` differs when an audit is repeated."""
        return {
            "name": "audit",
            "sound": not self.broken,
            "missed": [finding.system for finding in self.missed],
            **asdict(self),
        }
