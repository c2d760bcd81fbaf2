"""A cohort whose every key is fixed, and a server that drops members where it is told to."""

import hashlib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from common.errors import RoundAbandonedError
from common.secagg import Aggregator, Floor, Participant, RoundTerms, certify, from_ring, to_ring

AUTHORITY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"authority").digest())
SHARE_BYTES = 66
HEADER_BYTES = 2 + 32
ADVERT_TABLE_ROW = 8 + 233
BINDING = bytes(range(32))
LEGS = 5
NO_FLOOR = Floor(2, 2, 1, 16, 0.0, -math.inf)  # for graphs too small or sparse to be used

FIVE = RoundTerms(
    run="test-run",
    round=3,
    attempt=0,
    seed=7,
    dimension=37,
    clip=0.5,
    bits=16,
    levels=6000,
    noise=0.0,
    cohort=5,
    least=4,
    corrupt=1,
    neighbours=4,
    threshold=3,
    colluders=1,
    training="cd" * 32,
    log_size=9,
    log_head="ab" * 32,
)
FIVE_MEMBERS = (3, 10, 11, 200, 2**64 - 1)


def stream(label: str) -> Callable[[int], bytes]:
    """Deterministic randomness."""
    calls = 0

    def draw(count: int) -> bytes:
        nonlocal calls
        calls += 1
        return hashlib.shake_256(f"{label}/{calls}".encode()).digest(count)

    return draw


def device(member: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"dev{member}".encode()).digest())


def certificate(member: int) -> bytes:
    return certify(AUTHORITY, member, device(member).public_key())


def floor_for(terms: RoundTerms) -> Floor:
    """The default floor wherever everybody holds everybody's shares, so that nothing is left to
    chance.
    """
    return Floor() if terms.neighbours == terms.cohort - 1 else NO_FLOOR


def participant(
    terms: RoundTerms, member: int, label: str = "p", floor: Floor | None = None
) -> Participant:
    papers = device(member), certificate(member), AUTHORITY.public_key()
    random = stream(f"{label}{member}")
    return Participant(terms, member, *papers, random, floor or floor_for(terms))


def participants(terms: RoundTerms, members: Collection[int]) -> dict[int, Participant]:
    return {member: participant(terms, member) for member in members}


def aggregator(terms: RoundTerms, binding: bytes | None = BINDING) -> Aggregator:
    server = Aggregator(terms, AUTHORITY.public_key())
    if binding is not None:
        server.bind(binding)
    return server


def reload(old: Participant, random: Callable[[int], bytes] | None = None) -> Participant:
    member = old._member
    return Participant.load(
        old.save(),
        device(member),
        certificate(member),
        AUTHORITY.public_key(),
        random or old._random,
    )


def vector(terms: RoundTerms, member: int) -> NDArray[np.int64]:
    """Integers over the whole range of the quantiser."""
    generator = np.random.default_rng(member % 2**32)
    return generator.integers(-terms.levels, terms.levels, terms.dimension, endpoint=True)


def plain_sum(terms: RoundTerms, members: Collection[int]) -> NDArray[np.int64]:
    return sum((vector(terms, m) for m in members), np.zeros(terms.dimension, np.int64))


def step(
    terms: RoundTerms,
    leg: int,
    who: Participant,
    member: int,
    message: bytes,
    binding: bytes = BINDING,
) -> bytes:
    """A participant's answer in leg 0 to 4."""
    if leg == 0:
        return who.advertise()
    if leg == 1:
        return who.share(message)
    if leg == 2:
        return who.mask(message, to_ring(vector(terms, member), terms.bits), binding)
    return who.confirm(message) if leg == 3 else who.reveal(message)


def collect(server: Aggregator, leg: int, sent: Mapping[int, bytes]) -> dict[int, bytes]:
    """The server's answer in leg 0 to 3."""
    return [server.roster, server.inboxes, server.survivors, server.confirmations][leg](sent)


@dataclass
class Outcome:
    """What a driven round ended in.

    `received[leg]` is what the server sent for a leg, `sent[leg]` what members answered, whether
    that was delivered or not.
    """

    total: NDArray[np.int64] | None = None
    survivors: set[int] = field(default_factory=set)
    abandoned_in: int | None = None
    received: list[dict[int, bytes]] = field(default_factory=list)
    sent: list[dict[int, bytes]] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    holders: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


def drive(
    terms: RoundTerms,
    members: Collection[int],
    drops: Mapping[int, int],
    between: Callable[[Participant], Participant] = lambda same: same,
    tamper: Callable[[int, int, bytes], bytes] = lambda _leg, _member, message: message,
) -> Outcome:
    """Run a round; the message of member m in leg drops[m] does not arrive, nor any later one."""
    people, server, outcome = participants(terms, members), aggregator(terms), Outcome()
    inbound = dict.fromkeys(members, b"")
    for leg in range(LEGS):
        people = {member: between(who) for member, who in people.items()}
        answers = {m: step(terms, leg, people[m], m, inbound[m]) for m in inbound}
        outcome.received.append(dict(inbound))
        outcome.sent.append(answers)
        arrived = {m: tamper(leg, m, a) for m, a in answers.items() if drops.get(m, 5) > leg}
        try:
            if leg == 4:
                outcome.total = from_ring(server.unmask(arrived), terms.bits)
            else:
                inbound = collect(server, leg, arrived)
                outcome.survivors = set(inbound) if leg == 2 else outcome.survivors
        except RoundAbandonedError:
            outcome.abandoned_in = leg
            break
        finally:
            outcome.refused = server.refused
            outcome.holders = getattr(server, "_holders", {})
    return outcome


def shares_in(reveals: Collection[bytes]) -> dict[tuple[int, int], int]:
    """How many shares of (member, 0 self mask or 1 mask key) reveal messages hold.

    Reads the layout of SPEC.md by offset.
    """
    counts: dict[tuple[int, int], int] = {}
    for message in reveals:
        table = message[HEADER_BYTES + 8 + 4 :]
        width = 8 + 1 + SHARE_BYTES
        for row in (table[at : at + width] for at in range(0, len(table), width)):
            key = int.from_bytes(row[:8], "big"), row[8]
            counts[key] = counts.get(key, 0) + 1
    return counts


def due_from(holder: int, holders: Mapping[int, Collection[int]]) -> set[int]:
    """Whose shares a holder has, given whom each sharer chose."""
    return {member for member, chosen in holders.items() if holder in chosen}


def assert_no_member_exposed(terms: RoundTerms, reveals: Collection[bytes]) -> None:
    """Nobody's self mask and mask key can both be rebuilt."""
    counts = shares_in(reveals)
    for member in {member for member, _ in counts}:
        assert min(counts.get((member, secret), 0) for secret in (0, 1)) < terms.threshold


def with_terms(**changes: object) -> RoundTerms:
    return replace(FIVE, **changes)
