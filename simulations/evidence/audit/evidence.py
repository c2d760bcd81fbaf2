"""Facts that one check collects, and the verdict that follows from them.

An exact fact is a number with a limit that holds without any probability. A tested fact is a
p-value under the claim; all tests of one check share its risk equally (Bonferroni), so that a sound
system fails the check with a probability of `RISK` at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from simulations.evidence.audit.findings import SOUND, Finding, judged

RISK = 0.001  # of one check of a sound system; docs/audit.md adds them up
POWER = 0.99  # with which the stated deviations are caught


@dataclass(slots=True)
class Evidence:
    """What one check saw.

    Attributes:
        system: Whose facts these are.
        violated: Exact limits that were passed, in words.
        tests: The p-value of each tested fact, by name.
        figures: Numbers for the report.
    """

    system: str = SOUND
    violated: list[str] = field(default_factory=list)
    tests: dict[str, float] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    facts: int = 0

    def at_most(self, what: str, measured: float, limit: float) -> None:
        """Note an exact fact. NaN counts as above every limit."""
        self.facts += 1
        if not measured <= limit:
            self.violated.append(f"{what}: {measured:.6g}, at most {limit:.6g} is claimed")

    def same(self, what: str, measured: object, wanted: object) -> None:
        """An exact fact: two things are equal."""
        self.facts += 1
        if measured != wanted:
            self.violated.append(f"{what}: {measured}, not {wanted}")

    def tested(self, what: str, p: float) -> None:
        """A fact with a p-value under the claim; NaN refutes."""
        self.tests[what] = 0.0 if math.isnan(p) else p

    def improbable(self) -> list[str]:
        """The tests that refute the claim."""
        limit = RISK / max(1, len(self.tests))
        return [f"{what} (p = {p:.1e})" for what, p in self.tests.items() if p < limit]

    @property
    def enough(self) -> bool:
        """A broken system is caught, so that more facts of the same kind add nothing."""
        return self.system != SOUND and bool(self.violated)

    def finding(self, check: str, tried: str, claimed: str, power: str) -> Finding:
        """One line of the audit.

        Args:
            power: The smallest deviation that is caught with 99 %, in words.
        """
        wrong = [*self.violated, *self.improbable()]
        seen = f"{self.facts} exact facts and {len(self.tests)} tests"
        if wrong:
            more = f"; and {len(wrong) - 2} more" if len(wrong) > 2 else ""
            measured = "; ".join(wrong[:2]) + more
        else:
            measured = f"{seen}, none against it"
        figures = {
            **{name: value for name, value in self.figures.items() if math.isfinite(value)},
            "exact_facts": self.facts,
            "exact_violated": len(self.violated),
            "tests": len(self.tests),
            "least_p": min(self.tests.values(), default=1.0),
            "risk": RISK if self.tests else 0.0,
        }
        verdict = judged(self.system, refuted=bool(wrong))
        return Finding(check, self.system, tried, measured, claimed, verdict, figures, power)


def two_sided_chi2(total: float, freedom: int) -> float:
    """The p-value of a sum of squares that should be χ² with so many degrees of freedom."""
    from scipy.stats import chi2

    below, above = float(chi2.cdf(total, freedom)), float(chi2.sf(total, freedom))
    return min(1.0, 2 * min(below, above))


def two_sided_normal(z: float) -> float:
    """The p-value of a standard normal."""
    return math.erfc(abs(z) / math.sqrt(2))


def variance_caught(count: int, tests: int) -> float:
    """The smallest relative error of a variance, up or down, that `count` draws show with 99 %."""
    from scipy.stats import chi2

    side = RISK / tests / 2
    more = float(chi2.isf(side, count) / chi2.ppf(1 - POWER, count)) - 1
    less = 1 - float(chi2.ppf(side, count) / chi2.ppf(POWER, count))
    return max(more, less)
