"""Members, and terms, that are broken on purpose, each in one way.

They exist to show that the attacks can succeed: an attack that fails against a broken member
measures nothing. Nothing outside `simulations/evidence/attacks` and its tests may use them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.secagg import Participant, RoundTerms
from common.secagg.messages import decode_roster
from common.secagg.roster import Roster, roster_digest
from common.secagg.sealing import Sealer
from common.secagg.state import decode_state

WEAK_BYTES = 4  # of 32


class BrokenRevealsBoth(Participant):
    """Answers every list of survivors it is sent, so that it gives both shares of a member."""

    def mask(self, inbox: bytes, vector: NDArray[np.uint32], binding: bytes) -> bytes:
        """Mask, and keep the state as it is now."""
        masked = super().mask(inbox, vector, binding)
        self._kept = self.save()
        return masked

    def confirm(self, survivors: bytes) -> bytes:
        """Confirm as if for the first time."""
        self._state = decode_state(self._kept)[2]
        return super().confirm(survivors)


class BrokenWeakSeeds(Participant):
    """Truncates the keys of its pair masks to 32 bits."""

    def _sealer(self) -> Sealer:
        return _WeakSealer(self._digest, self._roster, self._member, self._state)


class _WeakSealer(Sealer):
    def masks(self, bound: bytes, partners: object) -> list[tuple[bytes, int]]:
        own, *pairs = super().masks(bound, partners)  # type: ignore[arg-type]
        return [own, *((weak_key(key[:WEAK_BYTES]), sign) for key, sign in pairs)]


class BrokenTakesAnyRoster(Participant):
    """Verifies no certificate and no signature in a roster."""

    def _open_roster(self) -> Roster:
        data = self._state.roster
        return Roster(decode_roster(self._digest, data), {}, roster_digest(self._digest, data))


class BrokenIgnoresBinding(Participant):
    """Masks alike whatever the adapter."""

    def mask(self, inbox: bytes, vector: NDArray[np.uint32], binding: bytes) -> bytes:
        """Mask as if for an adapter of zeros."""
        return super().mask(inbox, vector, bytes(len(binding)))


class BrokenTerms(RoundTerms):
    """Terms that need not follow the rules by which only one list of survivors can be signed."""

    def validate(self) -> None:
        """Take them as they are."""


def weak_key(seed: bytes) -> bytes:
    """A mask key with as few bits as its seed."""
    return seed.ljust(32, b"\0")
