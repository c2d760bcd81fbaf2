"""Hostile input to decoders, storage and a member: typed errors, and nothing is given away."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from secagg_fuzz import (
    BINDINGS,
    ELSEWHERE,
    EVERYBODY,
    ME,
    QUIET,
    ROUND,
    SOME,
    TERMS,
    bent,
    fuzzing,
    members_of,
)
from secagg_liar import Judge, Liar
from secagg_round import (
    AUTHORITY,
    BINDING,
    certificate,
    device,
    participant,
    reload,
    step,
    stream,
)

from common.errors import ProtocolError
from common.secagg import Participant, RoundTerms, messages, verify_certificate
from common.secagg.quantize import add_packed
from common.secagg.state import decode_state, encode_state
from common.secagg.terms import bound_digest

T, BOUND = SOME.digest(), bound_digest(SOME.digest(), BINDING)
ELSEWHERE_T = replace(SOME, attempt=1).digest()


def masked_again(data: bytes) -> bytes:
    packed = messages.decode_masked(BOUND, ME, data)
    add_packed(np.zeros(SOME.dimension, np.uint32), packed, SOME.bits)
    return messages.masked_header(BOUND, ME) + bytes(packed)


def certified_again(data: bytes) -> bytes:
    opened = verify_certificate(data, AUTHORITY.public_key())
    assert opened.device == device(opened.member).public_key()
    return certificate(opened.member)


def saved(stage: int) -> bytes:
    who = participant(SOME, ME)
    for leg in range(stage):
        step(SOME, leg, who, ME, ROUND.received[leg][ME])
    return who.save()


Again = Callable[[bytes], bytes]
DECODERS: dict[str, tuple[bytes, bytes, Again]] = {
    "terms": (
        SOME.encode(),
        EVERYBODY.encode(),
        lambda data: RoundTerms.decode(data).encode(),
    ),
    "certificate": (certificate(ME), certificate(3), certified_again),
    "members": (
        messages.encode_members(members_of(SOME)),
        messages.encode_members([]),
        lambda data: messages.encode_members(messages.decode_members(data)),
    ),
    "state": (saved(4), saved(2), lambda data: encode_state(*decode_state(data))),
    "advert": (
        ROUND.sent[0][ME],
        ELSEWHERE.sent[0][ME],
        lambda data: messages.encode_advert(T, ME, messages.decode_advert(T, ME, data)),
    ),
    "roster": (
        ROUND.received[1][ME],
        ELSEWHERE.received[1][ME],
        lambda data: messages.encode_roster(T, messages.decode_roster(T, data)),
    ),
    "shares": (
        ROUND.sent[1][ME],
        ELSEWHERE.sent[1][ME],
        lambda data: messages.encode_shares(T, ME, messages.decode_shares(T, ME, data)),
    ),
    "inbox": (
        ROUND.received[2][ME],
        ELSEWHERE.received[2][ME],
        lambda data: messages.encode_inbox(T, messages.decode_inbox(T, data)),
    ),
    "opened": (
        messages.encode_opened(T, ME, [3, 200]),
        messages.encode_opened(ELSEWHERE_T, ME, [3]),
        lambda data: messages.encode_opened(T, ME, messages.decode_opened(T, ME, data)),
    ),
    "masked": (ROUND.sent[2][ME], ELSEWHERE.sent[2][ME], masked_again),
    "survivors": (
        ROUND.received[3][ME],
        ELSEWHERE.received[3][ME],
        lambda data: messages.encode_survivors(BOUND, messages.decode_survivors(BOUND, data)),
    ),
    "confirmation": (
        ROUND.sent[3][ME],
        ELSEWHERE.sent[3][ME],
        lambda data: messages.encode_confirmation(
            BOUND, ME, messages.decode_confirmation(BOUND, ME, data)
        ),
    ),
    "confirmations": (
        ROUND.received[4][ME],
        ELSEWHERE.received[4][ME],
        lambda data: messages.encode_confirmations(
            BOUND, messages.decode_confirmations(BOUND, data)
        ),
    ),
    "reveal": (
        ROUND.sent[4][ME],
        ELSEWHERE.sent[4][ME],
        lambda data: messages.encode_reveal(BOUND, ME, messages.decode_reveal(BOUND, ME, data)),
    ),
}


def decode_anything(name: str, examples: int) -> None:
    """Whatever is decoded at all has that one encoding."""
    message, foreign, again = DECODERS[name]
    assert again(message) == message
    everything = [foreign, *(other for other, _, _ in DECODERS.values())]

    @settings(QUIET, max_examples=examples)
    @given(
        st.one_of(bent(message, everything), st.binary(max_size=200), st.sampled_from(everything))
    )
    def decode(data: bytes) -> None:
        with suppress(ProtocolError):
            assert again(data) == data

    decode()


@pytest.mark.parametrize("name", DECODERS)
def test_decoders(name: str) -> None:
    decode_anything(name, 60)


@pytest.mark.long
@pytest.mark.parametrize("name", DECODERS)
def test_decoders_for_long(name: str) -> None:
    decode_anything(name, 1_500)


class LyingServer(RuleBasedStateMachine):
    """One honest member; server, network and all other members lie as they please."""

    @initialize(terms=TERMS, ahead=st.integers(0, 3), data=st.data())
    def begin(self, terms: RoundTerms, ahead: int, data: st.DataObject) -> None:
        """Some legs go well before anybody lies."""
        self.terms, self.who = terms, participant(terms, ME)
        state = self.who._state
        self.secrets = [state.mask_private, state.share_private, state.self_seed]
        self.given: list[bytes] = []
        self.sent: list[bytes] = []
        self.binding, self.dead = BINDING, False
        self.judge, self.seen = Judge(terms), [ROUND.received[1][ME]]
        self.deliver(0, b"")
        self.liar = Liar(terms, self.sent[0])
        for _ in range(ahead):
            self.deliver(len(self.sent), self.due(data, honest=True))

    def deliver(self, leg: int, message: bytes) -> None:
        """Hand a message over; what comes of it is right, or is a typed error and the end."""
        due = len(self.sent) == leg and not self.dead
        self.seen.append(message)
        opened = self.opened(message) if leg == 2 else None
        try:
            answer = step(self.terms, leg, self.who, ME, message, binding=self.binding)
        except ProtocolError:
            assert opened is None or not due
            self.dead = True
            return
        assert due
        self.sent.append(answer)
        self.given.append(message)
        self.judge.judge(leg, message, answer)
        assert opened is None or opened == self.judge.unopened

    def opened(self, inbox: bytes) -> set[int] | None:
        """Whose shares do not open; None where that was refused. Nothing is changed by it."""
        before = self.who.save()
        try:
            answer = messages.decode_opened(self.terms.digest(), ME, self.who.open(inbox))
        except ProtocolError:
            answer = None
        assert self.who.save() == before
        return None if answer is None else set(answer)

    def due(self, data: st.DataObject, honest: bool) -> bytes:
        """The message that comes next, to a member that may have been restarted."""
        if data.draw(st.booleans()):
            self.who = reload(self.who)
        leg, liar, judge = len(self.sent), self.liar, self.judge
        if leg == 1:
            return liar.roster(data, honest)
        if leg == 2:
            self.binding = data.draw(st.sampled_from(BINDINGS))
            judge.bind(self.binding, liar.boxes(self.given[1]))
            return liar.inbox(data, honest, self.given[1])
        if leg == 3:
            return liar.survivors(data, honest, judge.reading.bound, judge.sharers)
        statement = judge.statement(judge.survivors)
        return liar.confirmations(data, honest, statement, judge.survivors)

    def under_way(self) -> bool:
        return not self.dead and len(self.sent) < 5

    @precondition(under_way)
    @rule(kind=st.sampled_from(["honest", "lie", "lie", "bent"]), data=st.data())
    def go_on(self, kind: str, data: st.DataObject) -> None:
        message = self.due(data, honest=kind != "lie")
        message = data.draw(bent(message, self.seen)) if kind == "bent" else message
        self.deliver(len(self.sent), message)

    @precondition(lambda self: self.under_way() and len(self.sent) == 2)
    @rule(wrong=st.sampled_from(["type", "length", "binding"]), data=st.data())
    def wrong_vector(self, wrong: str, data: st.DataObject) -> None:
        inbox, ring = self.due(data, honest=True), np.zeros(self.terms.dimension, np.uint32)
        changed = {"type": ring.astype(np.int64), "length": ring[1:]}.get(wrong, ring)
        with pytest.raises(ProtocolError):
            self.who.mask(inbox, changed, self.binding[wrong == "binding" :])
        self.dead = True

    @rule(leg=st.integers(0, 4), data=st.data())
    def anything_at_any_time(self, leg: int, data: st.DataObject) -> None:
        if leg != len(self.sent) or self.dead:
            self.deliver(leg, data.draw(st.sampled_from(self.seen)))

    @invariant()
    def the_masked_input_is_the_one_that_was_sent(self) -> None:
        if not self.dead and len(self.sent) == 3:
            assert self.who.masked == self.sent[2]
        else:
            with pytest.raises(ProtocolError):
                _ = self.who.masked

    @invariant()
    def secrets_stay_here_and_end_with_the_round(self) -> None:
        saved = [] if self.under_way() else [self.who.save()]
        for message in [*self.sent, *saved]:
            assert not any(secret in message for secret in self.secrets)


def test_member() -> None:
    fuzzing(LyingServer, examples=150, steps=6)


@pytest.mark.long
def test_member_for_long() -> None:
    fuzzing(LyingServer, examples=1_000, steps=14)


@pytest.mark.parametrize("stage", range(5))
def test_storage(stage: int) -> None:
    """A bent state is refused, or belongs to a member that still knows only typed errors."""
    state, inbound = saved(stage), [{ME: b""}, *ROUND.received[1:]]
    papers = device(ME), certificate(ME), AUTHORITY.public_key(), stream("fuzz")

    @settings(QUIET, max_examples=60)
    @given(bent(state, [saved((stage + 1) % 5)]))
    def restore(data: bytes) -> None:
        with suppress(ProtocolError):
            who = Participant.load(data, *papers)
            with suppress(ProtocolError):
                assert who.masked
            step(SOME, stage, who, ME, inbound[stage][ME])

    restore()
