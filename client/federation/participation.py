"""The device's side of one federated round: five legs, and the opening of
the inbox between the second and the third. Each is a function from bytes to bytes.

What comes before leg 3 of a round may come along with legs 3, 4 and 5 of the one before, so the
state of each round is kept by its number. It is in the device's store, so that a restart neither
loses a round nor masks twice. The ledger is charged before the masked update exists, and after
all that others sent was checked. Asked once more what it was asked last in a round, because the
first answer got lost, a device sends the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from client.federation import draws
from client.federation.acceptance import check_terms
from client.federation.contribution import agreed_cost, begin, finish, purpose, train
from client.federation.device import Device
from client.vault.store import ASKED, OF_ROUNDS, STATE, TERMS, Upload
from common.adapter.weights import decode_shared
from common.errors import ProtocolError
from common.learning.backbone import adapter_plans
from common.secagg import Floor, Participant, RoundTerms, to_ring
from common.settings import MIN_COHORT, Settings

DIGEST_BYTES = 32  # of what was asked; the answer follows
FLOOR = Floor(cohort=MIN_COHORT)
FAILED = "failed"  # what the server is told of every mistake that is not its own


def advertise(device: Device, settings: Settings, offered: bytes, log: bytes = b"") -> bytes:
    """Leg 1: check the terms against what this device accepts; answer with signed round keys.

    Args:
        log: What the device lacks of the enrolment log, and no harm if more.

    Raises:
        ProtocolError: The terms are not what this run's settings give, or below the floor, or
            the device was charged for this attempt (a server whose folder was restored may ask
            again), or chose holders for it, or too often.
        BudgetExceededError: The device could not afford the round.
        DeclinedError: Its own policy says no.
    """
    terms = RoundTerms.decode(offered)
    asked = _digest("advertise", offered)
    if (answered := _again(device, terms.round, "advertise", asked)) is not None:
        return answered
    check_terms(terms, settings)
    device.store.ledger.require_new(terms.run, terms.round, terms.attempt)
    draws.require_new(device.store, terms)
    if device.enrolled:
        device.enrolled.require_log(terms, log)
    agreed_cost(device, settings, terms)
    participant = device.steps.participant(
        terms,
        device.member,
        device.identity.key,
        device.identity.certificate,
        device.identity.authority,
        device.randomness.stream(purpose(terms, "advertise")),
        floor=FLOOR,
    )
    message = participant.advertise()
    with device.store.together():
        _forget_but(device, {terms.round - 1, terms.round})
        draws.forget_but(device.store, {terms.round - 1, terms.round})
        device.store.put(f"{TERMS}{terms.round}", offered)
        return _answer(device, terms, participant, "advertise", asked, message)


def share(device: Device, number: int, roster: bytes) -> bytes:
    """Leg 2: everybody's keys in, encrypted shares of this device's secrets out."""

    def leg(participant: Participant) -> bytes:
        if device.enrolled:
            device.enrolled.require_roster(_terms(device, number), roster)
        message = participant.share(roster)
        draws.note(device.store, _terms(device, number))
        return message

    return _leg(device, number, "share", [roster], leg)


def open_inbox(device: Device, number: int, inbox: bytes) -> bytes:
    """Between legs 2 and 3: whose shares do not open, before anybody trains. Nothing is kept.

    Raises:
        ProtocolError: What leg 3 would refuse as well.
    """
    terms, participant = _load(device, number, "open")
    message = participant.open(inbox)
    _journal(device, terms, "open", message)
    return message


def update(device: Device, settings: Settings, number: int, inbox: bytes, adapter: bytes) -> bytes:
    """Leg 3: check the inbox, charge the ledger, score the published adapter, train, mask, answer.

    Raises:
        ProtocolError: The settings are not those that leg 1 agreed on.
        BudgetExceededError, DeclinedError: As in leg 1; rounds made since then count.
    """
    terms = _agreed(device, settings, number)
    published = decode_shared(adapter_plans(settings)[0], adapter)

    def leg(participant: Participant) -> bytes:
        participant.open(inbox)  # what is wrong with it is found before anything is charged
        job = begin(device, settings, terms, published)
        integers = finish(device, job, train(device, job))
        binding = bytes.fromhex(published.digest())
        return participant.mask(inbox, to_ring(integers, terms.bits), binding)

    return _leg(device, number, "update", [inbox, adapter], leg)


def confirm(device: Device, number: int, survivors: bytes) -> bytes:
    """Leg 4: sign the one list of survivors."""
    return _leg(device, number, "confirm", [survivors], lambda member: member.confirm(survivors))


def reveal(device: Device, number: int, confirmations: bytes) -> bytes:
    """Leg 5: for each neighbour its self-mask share or its key share, never both."""
    answer = _leg(
        device, number, "reveal", [confirmations], lambda member: member.reveal(confirmations)
    )
    device.store.drop(f"{STATE}{number}")
    return answer


def adopt(device: Device, settings: Settings, adapter: bytes) -> bytes:
    """After the last round: take what was published. The answer says nothing."""
    device.adopt(settings, decode_shared(adapter_plans(settings)[0], adapter))
    return b""


def _terms(device: Device, number: int) -> RoundTerms:
    terms = device.store.get(f"{TERMS}{number}")
    if terms is None:
        raise ProtocolError(f"round {number} is not under way on this device.")
    return RoundTerms.decode(terms)


def _agreed(device: Device, settings: Settings, number: int) -> RoundTerms:
    """The terms of leg 1, which are about these settings."""
    terms = _terms(device, number)
    if terms.training != settings.digest():
        raise ProtocolError(f"the settings are not those that round {number} was agreed on.")
    return terms


def _load(device: Device, number: int, stage: str) -> tuple[RoundTerms, Participant]:
    terms, saved = _terms(device, number), device.store.get(f"{STATE}{number}")
    if saved is None:
        raise ProtocolError(f"round {number} is not under way on this device.")
    participant = device.steps.participant.load(
        saved,
        device.identity.key,
        device.identity.certificate,
        device.identity.authority,
        device.randomness.stream(purpose(terms, stage)),
    )
    return terms, participant


def _leg(
    device: Device,
    number: int,
    stage: str,
    given: Sequence[bytes],
    step: Callable[[Participant], bytes],
) -> bytes:
    """Take one step; its message, with the state after it, is kept before it is sent."""
    asked = _digest(stage, *given)
    if (answered := _again(device, number, stage, asked)) is not None:
        return answered
    terms, participant = _load(device, number, stage)
    try:
        message = step(participant)
    except BaseException:
        _forget(device, number)  # no second try with the same keys
        raise
    return _answer(device, terms, participant, stage, asked, message)


def _answer(
    device: Device,
    terms: RoundTerms,
    participant: Participant,
    stage: str,
    asked: bytes,
    message: bytes,
) -> bytes:
    with device.store.together():
        device.store.put(f"{STATE}{terms.round}", participant.save())
        device.store.put(f"{ASKED}{terms.round}", asked + message)
        _journal(device, terms, stage, message)
    return message


def _again(device: Device, number: int, stage: str, asked: bytes) -> bytes | None:
    """The last answer of a round if it was to this; None: this is another thing to answer."""
    kept = device.store.get(f"{ASKED}{number}") or b""
    if kept[:DIGEST_BYTES] != asked:
        return None
    message = kept[DIGEST_BYTES:]
    _journal(device, _terms(device, number), f"{stage} again", message)
    return message


def _digest(stage: str, *given: bytes) -> bytes:
    """A digest of everything that a leg was asked with, each part preceded by its length."""
    parts = [len(part).to_bytes(8, "big") + part for part in (stage.encode(), *given)]
    return hashlib.sha256(b"".join(parts)).digest()


def _journal(device: Device, terms: RoundTerms, what: str, message: bytes) -> None:
    upload = Upload(terms.run, terms.round, terms.attempt, what, len(message))
    device.store.journal(upload)


def _forget(device: Device, number: int) -> None:
    with device.store.together():
        for prefix in OF_ROUNDS:
            device.store.drop(f"{prefix}{number}")


def _forget_but(device: Device, rounds: set[int]) -> None:
    """End what other rounds left behind: a round that was not finished never will be."""
    for key in device.store.keys(TERMS):
        number = int(key.removeprefix(TERMS))
        if number not in rounds:
            _forget(device, number)
