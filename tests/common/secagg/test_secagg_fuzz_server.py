"""Hostile members of an honest server: typed errors, the right sum, and nobody else is blamed."""

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from secagg_fuzz import ELSEWHERE, ME, ROUND, TERMS, bent, fuzzing, members_of
from secagg_round import (
    BINDING,
    aggregator,
    assert_no_member_exposed,
    collect,
    participants,
    step,
    vector,
)

from common.errors import ProtocolError, RoundAbandonedError
from common.secagg import RoundTerms, from_ring


class LyingMembers(RuleBasedStateMachine):
    """An honest server; what members send it is lost, bent, mixed up, late or from elsewhere.

    Members who are still served are honest, so the sum must be right, up to what was added to a
    masked input on its way: nobody can tell that from another vector.
    """

    LEGS = ("roster", "inboxes", "survivors", "confirmations", "unmask")

    @initialize(terms=TERMS, ahead=st.integers(0, 4))
    def begin(self, terms: RoundTerms, ahead: int) -> None:
        """Some legs go well before anything happens on the way."""
        self.terms, self.members = terms, members_of(terms)
        self.people = participants(terms, self.members)
        self.server, self.dead, self.leg = aggregator(terms, None), False, 0
        self.inbound = dict.fromkeys(self.members, b"")
        self.bound = False
        self.pool = [*ROUND.sent[2].values(), *ELSEWHERE.sent[0].values()]
        self.touched: set[int] = set()  # members whose messages arrived changed or who gave up
        self.added = np.zeros(terms.dimension, np.int64)
        self.inputs: dict[int, bytes] = {}
        self.reveals: list[bytes] = []
        for _ in range(ahead):
            if self.leg == 2:
                self.try_to_bind(BINDING)
            self.close(self.answers())

    def answers(self) -> dict[int, bytes]:
        """Of every member that is served and takes what it is served."""
        made = {}
        for member, message in self.inbound.items():
            try:
                made[member] = step(self.terms, self.leg, self.people[member], member, message)
            except ProtocolError:
                self.touched.add(member)  # somebody's bent message was passed on to it
        if self.leg == 2:
            self.inputs = made
        if self.leg == 4:
            self.reveals = list(made.values())
        return made

    def bind(self, data: st.DataObject) -> None:
        """Before the masked inputs at the latest, and once."""
        for binding in data.draw(st.lists(st.sampled_from([BINDING, b"", bytes(33)]), max_size=2)):
            self.try_to_bind(binding)
        if self.leg == 2 and not self.bound:
            with pytest.raises(ProtocolError):
                self.server.survivors({})
            self.try_to_bind(BINDING)

    def try_to_bind(self, binding: bytes) -> None:
        if self.bound or binding != BINDING:
            with pytest.raises(ProtocolError):
                self.server.bind(binding)
        else:
            self.server.bind(binding)
            self.bound = True

    @precondition(lambda self: not self.dead and self.leg < 5)
    @rule(data=st.data())
    def next_leg(self, data: st.DataObject) -> None:
        self.bind(data)
        sent = self.answers()
        self.pool += sent.values()
        arrived = dict(sent)
        for member in data.draw(st.sets(st.sampled_from([*self.members, 999]), max_size=2)):
            arrived |= self.accident(data, member, sent)
        lost = data.draw(st.sets(st.sampled_from(self.members), max_size=1))
        arrived = {m: message for m, message in arrived.items() if m not in lost}
        self.touched |= {m for m, message in arrived.items() if message != sent.get(m)}
        if self.leg == 2:
            for member in data.draw(st.lists(st.sampled_from(sorted(arrived) or [3]), max_size=3)):
                self.server.receive(member, arrived.get(member, b""))
        self.close(arrived)

    def accident(
        self, data: st.DataObject, member: int, sent: dict[int, bytes]
    ) -> dict[int, bytes]:
        message = sent.get(member, self.pool[0])
        other = data.draw(st.sampled_from(self.pool))
        return {member: data.draw(st.one_of(bent(message, [other]), st.just(other)))}

    def close(self, arrived: dict[int, bytes]) -> None:
        """The server ends a leg."""
        try:
            if self.leg == 4:
                self.check(from_ring(self.server.unmask(arrived), self.terms.bits))
            else:
                self.inbound = collect(self.server, self.leg, arrived)
        except RoundAbandonedError:
            self.dead = True
        if self.leg == 2 and not self.dead:
            self.survivors = set(self.inbound)
            self.tell_added(arrived)
        self.leg += 1

    def tell_added(self, arrived: dict[int, bytes]) -> None:
        for member in self.inbound:
            before, after = (
                np.frombuffer(sent[42:], "<u2").astype(np.int64)
                for sent in (self.inputs[member], arrived[member])
            )
            self.added += after - before

    def check(self, total: np.ndarray) -> None:
        expected = sum(vector(self.terms, m) for m in self.survivors) + self.added
        half = 2 ** (self.terms.bits - 1)
        assert total.tolist() == ((expected + half) % (2 * half) - half).tolist()

    @precondition(lambda self: self.dead or self.leg == 5)
    @rule(leg=st.integers(0, 4))
    def nothing_after_the_end(self, leg: int) -> None:
        with pytest.raises(ProtocolError):
            getattr(self.server, self.LEGS[leg])({})
        with pytest.raises(ProtocolError):
            self.server.receive(ME, b"")

    @precondition(lambda self: not self.dead)
    @rule(leg=st.integers(0, 4))
    def out_of_order(self, leg: int) -> None:
        if leg != self.leg:
            with pytest.raises(ProtocolError):
                getattr(self.server, self.LEGS[leg])({})
            self.dead = True

    @invariant()
    def nobody_else_is_blamed(self) -> None:
        assert set(self.server.refused) <= self.touched

    @invariant()
    def nobody_is_exposed(self) -> None:
        assert_no_member_exposed(self.terms, self.reveals)


def test_server() -> None:
    fuzzing(LyingMembers, examples=50, steps=8)


@pytest.mark.long
def test_server_for_long() -> None:
    fuzzing(LyingMembers, examples=1_000, steps=14)
