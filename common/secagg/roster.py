"""What server and members both derive from the adverts: keys, graph, and when too few are left.

The graph is drawn from a digest of the terms and the whole roster, so the server is committed to
every key before it can know who neighbours whom.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from common.errors import ProtocolError, RoundAbandonedError
from common.secagg import messages
from common.secagg._hazmat.keys import Party, require_contributory
from common.secagg.graph import neighbours
from common.secagg.identity import verify, verify_certificate
from common.secagg.messages import Advert
from common.secagg.terms import RoundTerms
from common.secagg.wire import u32, u64

_ADVERT = b"privity/secagg/v1/advert\x00"
_ROSTER = b"privity/secagg/v1/roster\x00"
_CONFIRM = b"privity/secagg/v1/confirm\x00"
_COMMIT = b"privity/secagg/v1/self-mask-commitment\x00"


@dataclass(frozen=True, slots=True)
class Roster:
    """The verified members of a round and their graph."""

    adverts: Mapping[int, Advert]
    devices: Mapping[int, Ed25519PublicKey]
    graph: Mapping[int, tuple[int, ...]]
    digest: bytes

    def mask_party(self, member: int) -> Party:
        """The member with its mask key."""
        return Party(member, self.adverts[member].mask_public)

    def share_party(self, member: int) -> Party:
        """The member with its share-encryption key."""
        return Party(member, self.adverts[member].share_public)


def open_roster(terms: RoundTerms, authority: Ed25519PublicKey, data: bytes) -> Roster:
    """Decode a roster, verify every advert in it, and draw the graph.

    Raises:
        DecodeError: Not a roster of these terms.
        ProtocolError: A signature or key is wrong, or there are more members than the cohort.
        RoundAbandonedError: Too few members for the threshold.
    """
    return _open_roster(terms, authority.public_bytes_raw(), data)


@lru_cache(maxsize=4)  # many members in one process, or one that is stored between legs
def _open_roster(terms: RoundTerms, authority_raw: bytes, data: bytes) -> Roster:
    digest, authority = terms.digest(), Ed25519PublicKey.from_public_bytes(authority_raw)
    adverts = messages.decode_roster(digest, data)
    devices: dict[int, Ed25519PublicKey] = {}
    seen: set[bytes] = set()
    for member, advert in adverts.items():
        devices[member] = verify_advert(digest, authority, member, advert)
        require_new_keys(member, advert, seen)
    return draw(terms, adverts, devices, data)


def draw(
    terms: RoundTerms,
    adverts: Mapping[int, Advert],
    devices: Mapping[int, Ed25519PublicKey],
    data: bytes,
) -> Roster:
    """The roster of verified adverts, `data` being its encoding.

    Raises:
        ProtocolError: There are more members than the cohort.
        RoundAbandonedError: Too few members for the threshold.
    """
    size, threshold = len(adverts), terms.threshold
    if size > terms.cohort:
        raise ProtocolError(f"A roster of {size} exceeds the cohort of {terms.cohort}.")
    if size < threshold + 1 or terms.degree(size) < threshold:
        raise RoundAbandonedError(f"{size} members do not allow a threshold of {threshold}.")
    digest = hashlib.sha256(_ROSTER + terms.digest() + data).digest()
    graph = neighbours(list(adverts), terms.degree(size), digest)
    return Roster(dict(adverts), dict(devices), graph, digest)


def advert_statement(terms: bytes, member: int, mask_public: bytes, share_public: bytes) -> bytes:
    """What a device signs when it advertises its keys."""
    return _ADVERT + terms + u64(member) + mask_public + share_public


def verify_advert(
    terms: bytes, authority: Ed25519PublicKey, member: int, advert: Advert
) -> Ed25519PublicKey:
    """Check certificate, signature and keys of an advert; return the member's device key.

    Raises:
        ProtocolError: One of them does not hold.
    """
    certificate = verify_certificate(advert.certificate, authority)
    if certificate.member != member:
        raise ProtocolError(f"Member {member} shows the certificate of {certificate.member}.")
    statement = advert_statement(terms, member, advert.mask_public, advert.share_public)
    verify(certificate.device, advert.signature, statement, f"Advert of member {member}")
    require_contributory(advert.mask_public)
    require_contributory(advert.share_public)
    return certificate.device


def require_new_keys(member: int, advert: Advert, seen: set[bytes]) -> None:
    """Refuse a key that another member, or another use, already has; note the new ones.

    Raises:
        ProtocolError: A key of the advert repeats; none of its keys is noted.
    """
    own = {advert.mask_public, advert.share_public}
    if len(own) < 2 or own & seen:
        raise ProtocolError(f"Member {member} shows a key that is taken.")
    seen |= own


def transcript(
    terms: bytes, roster: Roster, sharers: Collection[int], survivors: Collection[int]
) -> bytes:
    """What a member signs before it reveals: roster, who shared, and who is in the sum."""
    lists = b"".join(
        u32(len(members)) + b"".join(map(u64, sorted(members))) for members in (sharers, survivors)
    )
    return _CONFIRM + terms + roster.digest + lists


def commitment(terms: bytes, member: int, seed: bytes) -> bytes:
    """Hash that commits a member to its self-mask seed, 32 bytes."""
    return hashlib.sha256(_COMMIT + terms + u64(member) + seed).digest()


def require_neighbourhoods(
    terms: RoundTerms, roster: Roster, sharers: Collection[int], present: Collection[int]
) -> None:
    """Check that the secrets of everyone who shared can still be rebuilt.

    Raises:
        RoundAbandonedError: Some sharer has fewer than t neighbours among `present`.
    """
    here = set(present)
    for member in sharers:
        left = len(here.intersection(roster.graph[member]))
        if left < terms.threshold:
            raise RoundAbandonedError(
                f"{left} neighbours of member {member} are left, {terms.threshold} are needed."
            )


def require_quorum(terms: RoundTerms, roster: Roster, present: Collection[int]) -> None:
    """Check that enough of the roster is present for two such sets to share an honest member.

    Raises:
        RoundAbandonedError: Fewer than the quorum.
    """
    quorum = terms.quorum(len(roster.adverts))
    if len(present) < quorum:
        raise RoundAbandonedError(f"{len(present)} members are left, {quorum} are needed.")
