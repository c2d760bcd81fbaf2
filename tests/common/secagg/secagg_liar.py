"""A lying server that owns every member but one, and who judges whether that one may answer it.

`Liar` makes messages that are well formed, often honest and often wrong in one respect. `Judge`
goes by the reader of SPEC.md and nothing of the package.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import strategies as st
from secagg_fuzz import ME, members_of
from secagg_round import AUTHORITY, certificate, device, participant
from spec_reader import Reading, label, number, opened, sha

from common.errors import ProtocolError
from common.secagg import RoundTerms, certify

WRONG = (
    "stranger",
    "of another attempt",
    "signature",
    "keys of another",
    "share key of low order",
    "mask key of low order",
    "one key twice",
    "certificate of another",
    "certificate by another",
)
_LOW_ORDER = bytes(32)


def ids(members: Iterable[int]) -> bytes:
    ordered = sorted(members)
    return number(len(ordered), 4) + b"".join(map(number, ordered))


def table(rows: dict[int, bytes]) -> bytes:
    return number(len(rows), 4) + b"".join(number(m) + rows[m] for m in sorted(rows))


@lru_cache(maxsize=1024)
def _advert(terms: RoundTerms, member: int) -> bytes:
    return participant(terms, member).advertise()[42:]


@lru_cache(maxsize=1024)
def _box(terms: RoundTerms, member: int, roster: bytes) -> bytes:
    """What a member seals for the honest one; nothing if it takes another holder, or no part."""
    who = participant(terms, member)
    who.advertise()
    try:
        body = opened(who.share(roster), 3, terms.digest())
    except ProtocolError:
        return b""
    body.take(8 + 32)
    return body.table(160).get(ME, b"")


class Liar:
    """The server and all members but one.

    Args:
        terms: Of the round.
        own: The advert of the honest member, as sent.
    """

    def __init__(self, terms: RoundTerms, own: bytes) -> None:
        self.terms, self.members = terms, members_of(terms)
        self.others = [m for m in self.members if m != ME]
        self.digest = sha(label("terms"), terms.encode())
        self.adverts = {m: _advert(terms, m) for m in self.others}
        self.adverts[ME] = own[42:]

    def head(self, kind: int, digest: bytes) -> bytes:
        return bytes([2, kind]) + digest

    def roster(self, data: st.DataObject, honest: bool) -> bytes:
        """Adverts of `least` members or more; of a lie, one is other than it should be."""
        bent_list = not honest and data.draw(st.booleans())
        listed = self._most_of(data, set(self.members), honest=not bent_list)
        rows = {m: self.adverts.get(m) or self.wrong(m, "stranger") for m in listed}
        if not honest and not bent_list:
            member = data.draw(st.sampled_from(sorted(rows)))
            rows[member] = self.wrong(member, data.draw(st.sampled_from(WRONG)))
        return self.head(2, self.digest) + table(rows)

    def wrong(self, member: int, how: str) -> bytes:
        """An advert that no other member may accept, unless it is a stranger's."""
        true, other = self.adverts.get(member, self.adverts[3])[:64], self.adverts[11][:64]
        forged = certify(device(3), member, device(member).public_key())
        match how:
            case "stranger":
                return self.signed(member, sha(number(member)) + sha(b"share", number(member)))
            case "of another attempt":
                return _advert(replace(self.terms, attempt=1), member)
            case "signature":
                return self.signed(member, true, signer=device(999))
            case "keys of another":
                return self.signed(member, other)
            case "share key of low order":
                return self.signed(member, true[:32] + _LOW_ORDER)
            case "mask key of low order":
                return self.signed(member, _LOW_ORDER + true[32:])
            case "one key twice":
                return self.signed(member, true[:32] * 2)
            case "certificate of another":
                return self.signed(member, true, signer=device(11), papers=certificate(11))
        return self.signed(member, true, papers=forged)

    def signed(
        self,
        member: int,
        keys: bytes,
        signer: Ed25519PrivateKey | None = None,
        papers: bytes | None = None,
    ) -> bytes:
        statement = label("advert") + self.digest + number(member) + keys
        papers = papers or certificate(member)
        return keys + papers + (signer or device(member)).sign(statement)

    def boxes(self, roster: bytes) -> dict[int, bytes]:
        """What those members who take the roster seal for the honest one."""
        members = opened(roster, 2, self.digest).table(233).keys() & self.others
        boxes = {member: _box(self.terms, member, roster) for member in members}
        return {member: box for member, box in boxes.items() if box}

    def inbox(self, data: st.DataObject, honest: bool, roster: bytes) -> bytes:
        """Sharers, and the boxes of some; of a lie, one box comes from the wrong place."""
        bent_list = not honest and data.draw(st.booleans())
        listed = set(opened(roster, 2, self.digest).table(233))
        sharers = self._most_of(data, listed, honest=not bent_list)
        boxes = self.boxes(roster)
        kept = data.draw(st.sets(st.sampled_from(sorted(boxes) or [ME])))
        rows = {m: box for m, box in boxes.items() if m in sharers and m not in kept}
        if not honest and not bent_list:
            member = data.draw(st.sampled_from([*self.members, 999]))
            rows[member] = data.draw(st.sampled_from([*boxes.values(), bytes(160)]))
        return self.head(4, self.digest) + ids(sharers) + table(rows)

    def survivors(
        self, data: st.DataObject, honest: bool, bound: bytes, sharers: set[int]
    ) -> bytes:
        return self.head(6, bound) + ids(self._most_of(data, sharers, honest))

    def _most_of(self, data: st.DataObject, them: set[int], honest: bool) -> set[int]:
        """At least `least` and the honest member; of a lie, one or two more or fewer."""
        spare = max(0, len(them) - self.terms.least)
        absent = data.draw(st.sets(st.sampled_from(sorted(them - {ME})), max_size=spare))
        changed = st.sets(st.sampled_from([ME, 999, *self.members]), min_size=1, max_size=2)
        return (them - absent) ^ (set() if honest else data.draw(changed))

    def confirmations(
        self, data: st.DataObject, honest: bool, statement: bytes, survivors: set[int]
    ) -> bytes:
        """Signatures of survivors; of a lie, one is over another list, or by somebody else."""
        bent_list = not honest and data.draw(st.booleans())
        signers = self._most_of(data, survivors, honest=not bent_list)
        rows = {m: device(m).sign(statement) for m in signers}
        if not honest and not bent_list:
            member = data.draw(st.sampled_from(sorted(signers)))
            wrong = [device(999).sign(statement), device(member).sign(statement[:-32] + bytes(32))]
            rows[member] = data.draw(st.sampled_from([*wrong, bytes(64)]))
        return self.head(8, statement[-96 - 32 : -96]) + table(rows)


class Judge:
    """Raises unless a member was right to answer; its state is what it was sent and said."""

    def __init__(self, terms: RoundTerms) -> None:
        self.terms = terms
        self.reading = Reading(terms.encode(), bytes(32), AUTHORITY.public_key())
        self.holders: set[int] = set()
        self.sharers: set[int] = set()
        self.survivors: set[int] = set()
        self.senders: set[int] = set()
        self.unopened: set[int] = set()

    def judge(self, leg: int, message: bytes, answer: bytes) -> None:
        [self.advert, self.shares, self.masked, self.confirmation, self.reveal][leg](
            message, answer
        )

    def advert(self, _: bytes, answer: bytes) -> None:
        self.keys = opened(answer, 1, self.reading.digest).left[8:72]

    def shares(self, roster: bytes, answer: bytes) -> None:
        reading = self.reading
        reading.read_roster(roster)
        members = set(reading.mask_key)
        assert self.terms.least <= len(members) <= self.terms.cohort
        assert self.keys == reading.mask_key[ME] + reading.share_key[ME]
        keys = [*reading.mask_key.values(), *reading.share_key.values()]
        assert len(set(keys)) == 2 * len(members)
        for key in keys:  # raises for a key of low order
            X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(key))
        body = opened(answer, 3, reading.digest)
        body.take(40)
        self.holders = set(body.table(160))
        assert len(self.holders) == min(self.terms.neighbours, len(members) - 1)
        assert self.holders <= members - {ME}

    def masked(self, inbox: bytes, _: bytes) -> None:
        body = opened(inbox, 4, self.reading.digest)
        self.sharers, boxes = set(body.members()), body.table(160)
        self._enough(self.sharers)
        assert ME in self.sharers <= set(self.reading.mask_key)
        assert boxes.keys() <= self.sharers - {ME}
        self.unopened = {m for m, box in boxes.items() if self.genuine.get(m) != box}
        self.senders = {m for m, box in boxes.items() if self.genuine.get(m) == box}

    def bind(self, binding: bytes, genuine: dict[int, bytes]) -> None:
        """What the next leg is about, and what was sealed for the member in truth."""
        self.reading.bound = sha(label("bound"), self.reading.digest, binding)
        self.genuine = genuine

    def statement(self, survivors: set[int]) -> bytes:
        return self.reading.statement(sorted(self.sharers), sorted(survivors))

    def confirmation(self, survivors: bytes, answer: bytes) -> None:
        self.survivors = set(opened(survivors, 6, self.reading.bound).members())
        self._enough(self.survivors)
        assert ME in self.survivors <= self.sharers
        signature = opened(answer, 7, self.reading.bound).left[8:]
        device(ME).public_key().verify(signature, self.statement(self.survivors))

    def reveal(self, confirmations: bytes, answer: bytes) -> None:
        rows = opened(confirmations, 8, self.reading.bound).table(64)
        assert self.terms.least <= len(rows)
        assert rows.keys() <= self.survivors
        for member, signature in rows.items():
            self.reading.device[member].verify(signature, self.statement(self.survivors))
        body = opened(answer, 9, self.reading.bound)
        assert body.integer(8) == ME
        which = {member: entry[0] for member, entry in body.table(67).items()}
        assert which == {m: int(m not in self.survivors) for m in self.senders}

    def _enough(self, present: set[int]) -> None:
        assert len(present) >= self.terms.least
        assert len(present & self.holders) >= self.terms.threshold
