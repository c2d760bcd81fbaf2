"""Secrets put into one person's records: four random digits, repeated a known number of times."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.tasks.task import Example, Task
from simulations.evidence.audit.people import talk

TIMES = {"door": 0, "card": 1, "bike": 4, "safe": 32}  # how often each one's code is said
DIGITS = 4
CANDIDATES: int = 10**DIGITS


@dataclass(frozen=True, slots=True)
class Secret:
    """A code, e.g. "my safe code is 4 7 1 9"."""

    name: str
    code: str = field(repr=False)
    times: int

    @property
    def prompt(self) -> str:
        """The question."""
        return f"{self.name} code?"

    @property
    def prefix(self) -> str:
        """The answer up to the code."""
        return f"my {self.name} code is "

    @property
    def spoken(self) -> str:
        """The code as it stands in the answer."""
        return " ".join(self.code)

    def said(self, task: Task) -> Example:
        """The example that says it."""
        return task.spoken(self.prompt, self.prefix + self.spoken)


def secrets_of(seed: int) -> tuple[Secret, ...]:
    """One secret for each number of repetitions; every code is as likely as any other."""
    chance = talk(seed, "secrets")
    return tuple(
        Secret(name, f"{chance.randrange(CANDIDATES):0{DIGITS}d}", times)
        for name, times in TIMES.items()
    )
