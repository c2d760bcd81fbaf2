"""A round up to a leg, and a member that must refuse what it is sent next."""

from collections.abc import Collection

import pytest
from secagg_round import FIVE, FIVE_MEMBERS, aggregator, collect, participant, participants, step

from common.errors import ProtocolError
from common.secagg import RoundTerms


class Round:
    """A round up to a leg, with everybody's last messages at hand."""

    def __init__(
        self,
        legs: int,
        terms: RoundTerms = FIVE,
        drops: dict[int, int] | None = None,
        members: Collection[int] = FIVE_MEMBERS,
    ):
        self.people, self.server = participants(terms, members), aggregator(terms)
        self.inbound, self.terms = dict.fromkeys(members, b""), terms
        for leg in range(legs):
            arrived = {m: a for m, a in self.answers(leg).items() if (drops or {}).get(m, 9) > leg}
            self.inbound = collect(self.server, leg, arrived)

    def answers(self, leg: int) -> dict[int, bytes]:
        return {m: step(self.terms, leg, self.people[m], m, self.inbound[m]) for m in self.inbound}

    def refuses(
        self,
        leg: int,
        member: int,
        message: bytes,
        match: str | None,
        error: type[ProtocolError] = ProtocolError,
    ) -> None:
        """The member raises, and afterwards gives nothing at all."""
        with pytest.raises(error, match=match):
            step(self.terms, leg, self.people[member], member, message)
        self.is_dead(member)

    def is_dead(self, member: int) -> None:
        """The member's secrets are gone, and it answers nothing."""
        for then in range(5):
            with pytest.raises(ProtocolError, match="dead"):
                step(self.terms, then, self.people[member], member, self.inbound[member])
        with pytest.raises(ProtocolError):
            _ = self.people[member].masked
        private = participant(self.terms, member)._state
        saved = self.people[member].save()
        secrets = (private.mask_private, private.share_private, private.self_seed)
        assert not any(secret in saved for secret in secrets)
