"""What a lying server of Privity knows, and the most it can make of it.

The cryptography is written here again from `common/secagg/SPEC.md`, as an attacker would: Shamir
over 2^521 - 1, HKDF-SHA256 with the labels of version 2, AES-256-CTR masks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from common.secagg import Participant, RoundTerms, dequantize, from_ring, unpack
from common.secagg.messages import SecretKind, decode_inbox, decode_reveal, decode_roster
from common.secagg.roster import transcript
from simulations.evidence.attacks.measure import Guess
from simulations.evidence.attacks.on_privity.round import COLLUDERS, MASK, PrivityRound

PRIME = 2**521 - 1
HEADER_BYTES, DIGEST_AT = 34, 2  # version, kind, digest
SELF, PAIR = b"privity/secagg/v2/self-mask\x00", b"privity/secagg/v2/pair-mask\x00"

Words = NDArray[np.uint32]
Shares = dict[int, dict[int, bytes]]  # by owner, then holder


@dataclass(slots=True)
class Attacker:
    """Everything the server has gathered about one round.

    Attributes:
        terms: The terms.
        publics: Mask public keys.
        masked: Masked inputs.
        privates: Mask private keys that are known.
        seeds: Self-mask seeds that are known.
        seed_shares: Shares of self-mask seeds.
        key_shares: Shares of mask private keys.
        colluders: Members who do as they are told.
    """

    terms: RoundTerms
    publics: dict[int, bytes]
    masked: dict[int, bytes]
    privates: dict[int, bytes] = field(default_factory=dict)
    seeds: dict[int, bytes] = field(default_factory=dict)
    seed_shares: Shares = field(default_factory=dict)
    key_shares: Shares = field(default_factory=dict)
    colluders: dict[int, Participant] = field(default_factory=dict)

    @classmethod
    def of(cls, run: PrivityRound, colluders: Collection[int] = COLLUDERS) -> Attacker:
        """The server of a round, joined by members who hand over all they have."""
        roster = decode_roster(run.terms.digest(), next(iter(run.messages(1).values())))
        publics = {m: advert.mask_public for m, advert in roster.items()}
        attacker = cls(run.terms, publics, dict(run.sent[MASK]))
        for colluder in colluders:
            attacker.joined_by(colluder, run.people[colluder], run.messages(MASK)[colluder])
        return attacker

    def joined_by(self, colluder: int, who: Participant, inbox: bytes) -> None:
        """A colluder hands over both shares of everybody who chose it as a holder."""
        self.colluders[colluder] = who
        sealed = decode_inbox(self.terms.digest(), inbox).sealed
        for owner, (of_seed, of_key) in who._sealer().unseal(sealed).items():
            self.seed_shares.setdefault(owner, {})[colluder] = of_seed
            self.key_shares.setdefault(owner, {})[colluder] = of_key

    def hears(self, holder: int, bound: bytes, reveal: bytes) -> None:
        """Shares that a member revealed."""
        for owner, (which, share) in decode_reveal(bound, holder, reveal).items():
            kept = self.seed_shares if which is SecretKind.SELF_MASK else self.key_shares
            kept.setdefault(owner, {})[holder] = share

    def signatures(self, survivors: Collection[int]) -> dict[int, bytes]:
        """What colluders sign over any list of survivors, when everybody shared."""
        return {
            member: who._identity.sign(
                transcript(self.bound(member), who._roster, list(self.publics), survivors)
            )
            for member, who in self.colluders.items()
            if member in survivors
        }

    def guess(self, victim: int, partners: Collection[int]) -> Guess:
        """The victim's masked input without every mask that can be removed: [dimension]."""
        total = self.left(victim, partners)
        clear = from_ring(total & np.uint32(2**self.terms.bits - 1), self.terms.bits)
        return dequantize(clear, self.terms.clip, self.terms.levels)

    def left(self, victim: int, partners: Collection[int]) -> Words:
        """What is left, as an element of the ring: [dimension]."""
        bound = self.bound(victim)
        packed = self.masked[victim][HEADER_BYTES + 8 :]
        total = unpack(packed, self.terms.bits, self.terms.dimension)
        seed = self.seeds.get(victim) or self._rebuilt(self.seed_shares, victim)
        if seed is not None:
            total -= mask(self_key(bound, seed, victim, self.publics[victim]), total.size)
        for peer in partners:
            key = self._pair_key(bound, victim, peer)
            if key is not None:
                pair = mask(key, total.size)
                total += pair if peer < victim else -pair
        return total

    def bound(self, member: int) -> bytes:
        """T1 as the member sees it; its masked input begins with it."""
        return self.masked[member][DIGEST_AT:HEADER_BYTES]

    def _pair_key(self, bound: bytes, victim: int, peer: int) -> bytes | None:
        if peer in self.colluders:  # it says what it masks with
            _, (key, _) = self.colluders[peer]._sealer().masks(bound, (victim,))
            return key
        for one, other in ((victim, peer), (peer, victim)):
            private = self.privates.get(one) or self._rebuilt(self.key_shares, one)
            if private is not None:
                ends = sorted([(victim, self.publics[victim]), (peer, self.publics[peer])])
                return pair_key(bound, private, self.publics[other], ends)
        return None

    def _rebuilt(self, kept: Shares, owner: int) -> bytes | None:
        shares = list(kept.get(owner, {}).items())[: self.terms.threshold]
        return combine(dict(shares)) if len(shares) == self.terms.threshold else None


def combine(shares: Mapping[int, bytes]) -> bytes:
    """Lagrange at 0; holder h has f(h + 1)."""
    points = {holder + 1: int.from_bytes(share, "big") for holder, share in shares.items()}
    total = 0
    for x, y in points.items():
        others = [other for other in points if other != x]
        over = [(other - x) % PRIME for other in others]
        total += y * _product(others) * pow(_product(over), -1, PRIME)
    return (total % PRIME % 2**256).to_bytes(32, "big")


def self_key(bound: bytes, seed: bytes, member: int, public: bytes) -> bytes:
    """Key of a self mask."""
    return _derive(bound, seed, SELF + member.to_bytes(8, "big") + public)


def pair_key(bound: bytes, private: bytes, public: bytes, ends: list[tuple[int, bytes]]) -> bytes:
    """Key of a pair mask; `ends` are both members with their public keys, ascending."""
    own, other = (
        X25519PrivateKey.from_private_bytes(private),
        X25519PublicKey.from_public_bytes(public),
    )
    info = PAIR + b"".join(member.to_bytes(8, "big") + key for member, key in ends)
    return _derive(bound, own.exchange(other), info)


def mask(key: bytes, size: int) -> Words:
    """AES-256-CTR key stream as little-endian words: [size]."""
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(4 * size)), dtype="<u4").astype(np.uint32)


def _derive(salt: bytes, secret: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(secret)


def _product(values: Collection[int]) -> int:
    product = 1
    for value in values:
        product = product * value % PRIME
    return product
