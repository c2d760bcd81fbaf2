"""Against Privity: a drop-out at the wrong time, and messages that are not what they should be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from common.errors import ProtocolError
from common.secagg.messages import decode_opened
from simulations.evidence.attacks.measure import (
    AttackOutcome,
    RefusalsSeen,
    likeness,
    synthetic_update,
)
from simulations.evidence.attacks.on_privity.round import (
    BINDING,
    LEGS,
    MASK,
    MEMBERS,
    VICTIM,
    PrivityRound,
)

FLIPS, CUTS = 12, 3
HEAD, ID = 34, 8  # bytes of a message's header, and of a member's id


def dropped_before_sharing() -> AttackOutcome:
    """A member sends its keys and is never heard of again."""
    dropped = MEMBERS[-1]
    total = PrivityRound(lost=lambda m, leg: m == dropped and leg > 0).total()
    true = np.sum([synthetic_update(m) for m in MEMBERS if m != dropped], axis=0)
    error = likeness(true, total)["relative_error"]
    text = f"the round went on with {len(MEMBERS) - 1} members; error of the sum {error:.2g}"
    return AttackOutcome(error > 1e-3, text, {"sums": 1, "sum_relative_error": error})


def malformed_messages() -> AttackOutcome:
    """The server's messages cut, too long, with a bit flipped or an entry twice; or sent twice."""
    refusals, noticed = RefusalsSeen(), 0
    run = PrivityRound().until(LEGS)
    for leg in range(1, LEGS):
        message = run.messages(leg)[VICTIM]
        for wrong in _wrong(message):
            if leg == MASK and _unopened(run, wrong):
                noticed += 1
            else:
                _deliver(run, leg, refusals, wrong)
        _deliver(run, leg, refusals, message, times=2)
    served = refusals.accepted - (LEGS - 1)  # the first of each pair is as it should be
    refused = refusals.refused
    text = f"{refused} of {refused + served} wrong or repeated messages refused"
    text += f"; of {noticed} more, shares did not open, which the member said"
    counts: dict[str, float] = {"accepted": served, "refused": refused, "noticed": noticed}
    return AttackOutcome(served > 0, text, counts)


def _unopened(run: PrivityRound, inbox: bytes) -> bool:
    """Whether the victim takes an inbox and says that shares in it do not open."""
    try:
        answer = run.victim_before(MASK).open(inbox)
    except ProtocolError:
        return False
    return bool(decode_opened(run.terms.digest(), VICTIM, answer))


def _deliver(
    run: PrivityRound, leg: int, refusals: RefusalsSeen, message: bytes, times: int = 1
) -> None:
    """Deliver a message to the victim as it was before the leg."""
    victim = run.victim_before(leg)
    for _ in range(times):
        if leg == MASK:
            refusals.ask(victim.mask, message, run.vector(VICTIM), BINDING)
        else:
            refusals.ask({1: victim.share, 3: victim.confirm, 4: victim.reveal}[leg], message)


def _wrong(message: bytes) -> Iterator[bytes]:
    yield message + b"\0"
    yield from (message[: len(message) * cut // CUTS] for cut in range(CUTS))
    yield message[:-1]
    for flip in range(FLIPS):
        at = len(message) * flip // FLIPS
        yield message[:at] + bytes([message[at] ^ 1 << flip % 8]) + message[at + 1 :]
    yield _first_entry_twice(message)


def _first_entry_twice(message: bytes) -> bytes:
    """The list behind the header, one longer, with its first id said twice."""
    count = int.from_bytes(message[HEAD : HEAD + 4], "big")
    first = message[HEAD + 4 : HEAD + 4 + ID]
    return message[:HEAD] + (count + 1).to_bytes(4, "big") + first + message[HEAD + 4 :]
