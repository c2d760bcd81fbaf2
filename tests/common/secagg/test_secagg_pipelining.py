"""The first two legs of a round run while the one before it runs its last three."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field, replace

import pytest
from secagg_round import (
    FIVE,
    FIVE_MEMBERS,
    aggregator,
    assert_no_member_exposed,
    collect,
    participant,
    plain_sum,
    reload,
    shares_in,
    step,
)

from common.errors import ProtocolError
from common.secagg import Aggregator, Participant, RoundTerms, from_ring

A, B, C, D, E = FIVE_MEMBERS
NEWCOMER = 12
SIX = replace(
    FIVE,
    round=4,
    cohort=6,
    least=5,
    corrupt=2,
    levels=5000,
    neighbours=5,
    threshold=4,
    colluders=2,
)


@dataclass
class Live:
    """A round under way; `stored` has everybody's state written and read between all legs."""

    terms: RoundTerms
    stored: bool
    people: dict[int, Participant]
    server: Aggregator
    inbound: dict[int, bytes]
    sent: list[dict[int, bytes]] = field(default_factory=list)

    @classmethod
    def begin(cls, terms: RoundTerms, members: Collection[int], stored: bool) -> "Live":
        people = {m: participant(terms, m, label=f"{terms.round}/") for m in members}
        server = aggregator(terms, binding=None)
        return cls(terms, stored, people, server, dict.fromkeys(members, b""))

    def ask(self, leg: int, *, away: Collection[int] = (), binding: bytes = b"") -> None:
        """One leg: everybody there answers, and the server makes the next messages of it."""
        if leg == 2:
            self.server.bind(binding)
        answers = {}
        for member in sorted(self.inbound.keys() - set(away)):
            who = self.people[member]
            who = self.people[member] = reload(who) if self.stored else who
            answers[member] = step(self.terms, leg, who, member, self.inbound[member], binding)
        self.sent.append(answers)
        if leg < 4:
            self.inbound = collect(self.server, leg, answers)

    def total(self) -> list[int]:
        return from_ring(self.server.unmask(self.sent[4]), self.terms.bits).tolist()


def published(total: list[int]) -> bytes:
    """Stands for the digest of the adapter that comes of a sum."""
    return hashlib.sha256(str(total).encode()).digest()


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("ahead_first", [False, True])
def test_setup_of_the_next_round_rides_on_this_one(stored: bool, ahead_first: bool) -> None:
    """E drops out of the first round; C is gone once it has shared for the second."""
    now = Live.begin(FIVE, FIVE_MEMBERS, stored)
    ahead = Live.begin(SIX, (*FIVE_MEMBERS, NEWCOMER), stored)
    first_binding = published([])
    now.ask(0)
    now.ask(1)
    for leg, away in ((2, {E}), (3, ())):
        legs = [
            lambda leg=leg, away=away: now.ask(leg, away=away, binding=first_binding),
            lambda leg=leg: ahead.ask(leg - 2),
        ]
        for exchange in legs[::-1] if ahead_first else legs:
            exchange()
    now.ask(4)
    first = now.total()
    assert first == plain_sum(FIVE, (A, B, C, D)).tolist()

    second_binding = published(first)  # did not exist when keys and shares were made
    for leg in (2, 3, 4):
        ahead.ask(leg, away={C}, binding=second_binding)
    assert ahead.total() == plain_sum(SIX, (A, B, D, E, NEWCOMER)).tolist()
    for run in (now, ahead):
        assert_no_member_exposed(run.terms, run.sent[4].values())


def test_secrets_of_one_round_say_nothing_about_those_of_the_next() -> None:
    """E's mask key is rebuilt in public in the first round; in the second it has another."""
    now, ahead = Live.begin(FIVE, FIVE_MEMBERS, False), Live.begin(SIX, FIVE_MEMBERS, False)
    for member in FIVE_MEMBERS:
        states = [run.people[member]._state for run in (now, ahead)]
        secrets = [
            secret
            for state in states
            for secret in (state.mask_private, state.share_private, state.self_seed)
        ]
        assert len(set(secrets)) == 6


@pytest.mark.parametrize("leg", [1, 2])
def test_messages_of_the_running_round_are_no_setup_of_the_next(leg: int) -> None:
    now = Live.begin(FIVE, FIVE_MEMBERS, False)
    ahead = Live.begin(replace(FIVE, round=4), FIVE_MEMBERS, False)
    for before in range(leg):
        now.ask(before)
        ahead.ask(before)
    with pytest.raises(ProtocolError, match="terms digest"):
        step(ahead.terms, leg, ahead.people[A], A, now.inbound[A])
    assert now.people[A].save() == reload(now.people[A]).save()
    now.ask(leg, binding=bytes(32))  # the running round goes on
    assert A in now.inbound


def test_who_is_gone_after_sharing_is_a_dropout_and_cannot_come_back() -> None:
    run = Live.begin(FIVE, FIVE_MEMBERS, False)
    run.ask(0)
    run.ask(1)
    late_inbox = run.inbound[C]
    for leg in (2, 3, 4):
        run.ask(leg, away={C}, binding=bytes(32))
    counts = shares_in(run.sent[4].values())
    assert counts[C, 1] >= FIVE.threshold
    assert (C, 0) not in counts
    late = step(FIVE, 2, run.people[C], C, late_inbox, bytes(32))
    with pytest.raises(ProtocolError, match="Masked input in stage"):
        run.server.receive(C, late)
    assert run.total() == plain_sum(FIVE, (A, B, D, E)).tolist()
