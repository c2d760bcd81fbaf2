"""What server and members both derive from the adverts, and when too few of them are left.

Every share is sealed under the roster's digest, so the server is committed to every key before a
member chooses its holders, and members shown different rosters cannot read each other.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from common.errors import ProtocolError, RoundAbandonedError
from common.secagg import messages
from common.secagg._hazmat.keys import Party, require_contributory
from common.secagg.identity import verify, verify_certificate
from common.secagg.messages import Advert
from common.secagg.terms import RoundTerms
from common.secagg.wire import u64

_ADVERT = b"privity/secagg/v2/advert\x00"
_ROSTER = b"privity/secagg/v2/roster\x00"
_CONFIRM = b"privity/secagg/v2/confirm\x00"
_COMMIT = b"privity/secagg/v2/self-mask-commitment\x00"


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity, so that it can be a cache key
class Roster:
    """The verified members of a round; `digest` is rho."""

    adverts: Mapping[int, Advert]
    devices: Mapping[int, Ed25519PublicKey]
    digest: bytes

    def mask_party(self, member: int) -> Party:
        """The member with its mask key."""
        return Party(member, self.adverts[member].mask_public)

    def share_party(self, member: int) -> Party:
        """The member with its share-encryption key."""
        return Party(member, self.adverts[member].share_public)


def open_roster(terms: RoundTerms, authority: Ed25519PublicKey, data: bytes) -> Roster:
    """Decode a roster and verify every advert in it.

    Raises:
        DecodeError: Not a roster of these terms.
        ProtocolError: A signature or key is wrong, or there are more members than the cohort.
        RoundAbandonedError: Fewer members than the terms ask for.
    """
    return _open_roster(terms, authority.public_bytes_raw(), data)


@lru_cache(maxsize=4)  # many members in one process, or one that is stored between legs
def _open_roster(terms: RoundTerms, authority_raw: bytes, data: bytes) -> Roster:
    digest, authority = terms.digest(), Ed25519PublicKey.from_public_bytes(authority_raw)
    adverts = messages.decode_roster(digest, data)
    require_size(terms, adverts)
    devices: dict[int, Ed25519PublicKey] = {}
    seen: set[bytes] = set()
    for member, advert in adverts.items():
        devices[member] = verify_advert(digest, authority, member, advert)
        require_new_keys(member, advert, seen)
    return Roster(adverts, devices, roster_digest(digest, data))


def require_size(terms: RoundTerms, members: Collection[int]) -> None:
    """Check that a roster has `least` to `cohort` members.

    Raises:
        ProtocolError: There are more.
        RoundAbandonedError: There are fewer.
    """
    if len(members) > terms.cohort:
        raise ProtocolError(f"A roster of {len(members)} exceeds the cohort of {terms.cohort}.")
    require_quorum(terms, members)


def roster_digest(terms: bytes, data: bytes) -> bytes:
    """rho: what an encoded roster is known by, 32 bytes."""
    return hashlib.sha256(_ROSTER + terms + data).digest()


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
    bound: bytes, roster: Roster, sharers: Collection[int], survivors: Collection[int]
) -> bytes:
    """What a member signs before it reveals: roster, who shared, and who is in the sum."""
    lists = (
        hashlib.sha256(messages.encode_members(them)).digest() for them in (sharers, survivors)
    )
    return _CONFIRM + bound + roster.digest + b"".join(lists)


@lru_cache(maxsize=4)  # as for `_open_roster`
def open_confirmations(
    roster: Roster, bound: bytes, statement: bytes, data: bytes
) -> frozenset[int]:
    """Who signed `statement`.

    Raises:
        DecodeError: Not a list of confirmations of this round.
        ProtocolError: Somebody is not in the roster, or a signature does not hold.
    """
    signatures = messages.decode_confirmations(bound, data)
    for member, signature in signatures.items():
        if member not in roster.devices:
            raise ProtocolError(f"Confirmed by member {member}, who is not in the roster.")
        what = f"Confirmation of member {member}"
        verify(roster.devices[member], signature, statement, what)
    return frozenset(signatures)


def commitment(terms: bytes, member: int, seed: bytes) -> bytes:
    """Hash that commits a member to its self-mask seed, 32 bytes."""
    return hashlib.sha256(_COMMIT + terms + u64(member) + seed).digest()


def require_holders(
    terms: RoundTerms, roster: Roster, member: int, holders: Collection[int]
) -> None:
    """Check that a member shared with as many other members as the terms say.

    Raises:
        ProtocolError: It did not.
    """
    others, wanted = set(holders) - {member}, terms.degree(len(roster.adverts))
    if not len(others) == len(holders) == wanted or not others <= roster.adverts.keys():
        raise ProtocolError(f"Member {member} did not share with {wanted} others of the roster.")


def require_neighbourhoods(
    terms: RoundTerms, holders: Mapping[int, Collection[int]], present: Collection[int]
) -> None:
    """Check that the secrets of every key of `holders` can still be rebuilt.

    Raises:
        RoundAbandonedError: Fewer than t of somebody's holders are present.
    """
    here = frozenset(present)
    for member, chosen in holders.items():
        left = len(here.intersection(chosen))
        if left < terms.threshold:
            raise RoundAbandonedError(
                f"{left} holders of member {member} are left, {terms.threshold} are needed."
            )


def require_quorum(terms: RoundTerms, present: Collection[int]) -> None:
    """Check that enough members are present for two such sets to share an honest one.

    Raises:
        RoundAbandonedError: Fewer than `least`.
    """
    if len(present) < terms.least:
        raise RoundAbandonedError(f"{len(present)} members are left, {terms.least} are needed.")
