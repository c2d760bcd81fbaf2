"""Examples that stand for what no person wrote: a backbone of the audit says what they are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Marked:
    """An example among a device's others that says what it is and which one."""

    kind: str
    name: str
    at: str | None = None
    split: str | None = None

    @property
    def content(self) -> tuple[str, str]:
        """Both."""
        return self.kind, self.name
