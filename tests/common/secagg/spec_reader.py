"""SPEC.md read once more: the messages of a round opened without the package.

Nothing here comes from `common`; each function follows the section of SPEC.md that it names.
"""

import hashlib
import hmac
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PRIME = 2**521 - 1


def label(name: str) -> bytes:
    return b"privity/secagg/v2/" + name.encode() + b"\0"


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def number(value: int, width: int = 8) -> bytes:
    return value.to_bytes(width, "big")


def hkdf(salt: bytes, secret: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block."""
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def prg(key: bytes, dimension: int) -> np.ndarray:
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(4 * dimension)), "<u4").astype(np.int64)


class Bytes:
    """What is left of a message."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def take(self, count: int) -> bytes:
        assert count <= len(self.left)
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    def integer(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def text(self) -> str:
        return self.take(self.integer(1)).decode("ascii")

    def members(self) -> list[int]:
        return [self.integer(8) for _ in range(self.integer(4))]

    def table(self, width: int) -> dict[int, bytes]:
        rows = [(self.integer(8), self.take(width)) for _ in range(self.integer(4))]
        assert [m for m, _ in rows] == sorted({m for m, _ in rows})
        assert self.left == b""
        return dict(rows)


def read_terms(data: bytes) -> dict[str, object]:
    """Section 2, Terms."""
    source = Bytes(data)
    assert source.integer(1) == 3
    found: dict[str, object] = {"run": source.text()}
    found |= {name: source.integer(8) for name in ("round", "attempt", "seed")}
    found["dimension"] = source.integer(4)
    found["clip"] = struct.unpack(">d", source.take(8))[0]
    found["bits"], found["levels"] = source.integer(1), source.integer(4)
    found["noise"] = struct.unpack(">d", source.take(8))[0]
    names = ("cohort", "least", "corrupt", "neighbours", "threshold", "colluders")
    found |= {name: source.integer(4) for name in names}
    found["training"] = source.text()
    found["log_size"] = source.integer(8)
    found["log_head"] = source.take(32 if found["log_size"] else 0).hex()
    assert source.left == b""
    return found


def opened(data: bytes, kind: int, digest: bytes) -> Bytes:
    """Section 3: a message without its header."""
    assert data[:34] == bytes([2, kind]) + digest
    return Bytes(data[34:])


def pick(peers: list[int], count: int, draw: Callable[[int], bytes]) -> list[int]:
    """Section 3, Holders."""
    peers = sorted(peers)
    for at in range(count):
        limit = len(peers) - at
        word = 2**64
        while word >= 2**64 - 2**64 % limit:
            word = int.from_bytes(draw(8), "big")
        other = at + word % limit
        peers[at], peers[other] = peers[other], peers[at]
    return sorted(peers[:count])


def shares_of(secret: bytes, holders: Iterable[int], t: int, draw: Callable[[int], bytes]):
    """Section 3, share."""
    tail = [int.from_bytes(draw(82), "big") % PRIME for _ in range(t - 1)]
    polynomial = [int.from_bytes(secret, "big"), *tail]
    powers = {h: [pow(h + 1, e, PRIME) for e in range(t)] for h in holders}
    return {
        h: number(sum(c * p for c, p in zip(polynomial, powers[h], strict=True)) % PRIME, 66)
        for h in holders
    }


def rebuilt(shares: Mapping[int, bytes]) -> bytes:
    """f(0) of the polynomial through the shares, by Lagrange's formula."""
    total = 0
    for h, share in shares.items():
        weight = 1
        for other in shares.keys() - {h}:
            weight = weight * (other + 1) * pow(other - h, -1, PRIME) % PRIME
        total += weight * int.from_bytes(share, "big")
    return number(total % PRIME, 32)


@dataclass
class Member:
    """Everything a member of the worked round knows by itself, from its stream of randomness."""

    member: int
    mask_private: bytes
    share_private: bytes
    seed: bytes

    @classmethod
    def drawn(cls, member: int, draw: Callable[[int], bytes]) -> "Member":
        return cls(member, draw(32), draw(32), draw(32))


@dataclass
class Reading:
    """The public side of a round: what its roster and terms say."""

    terms_bytes: bytes
    binding: bytes
    authority: Ed25519PublicKey
    mask_key: dict[int, bytes] = field(default_factory=dict)
    share_key: dict[int, bytes] = field(default_factory=dict)
    device: dict[int, Ed25519PublicKey] = field(default_factory=dict)
    rho: bytes = b""

    def __post_init__(self) -> None:
        self.terms = read_terms(self.terms_bytes)
        self.digest = sha(label("terms"), self.terms_bytes)
        self.bound = sha(label("bound"), self.digest, self.binding)

    def read_roster(self, data: bytes) -> None:
        """Section 3, A and roster digest; every signature is checked."""
        for member, advert in opened(data, 2, self.digest).table(233).items():
            keys, certificate, signature = advert[:64], advert[64:169], advert[169:]
            assert certificate[:9] == b"\1" + number(member)
            self.authority.verify(certificate[41:], label("certificate") + certificate[:41])
            self.device[member] = Ed25519PublicKey.from_public_bytes(certificate[9:41])
            statement = label("advert") + self.digest + number(member) + keys
            self.device[member].verify(signature, statement)
            self.mask_key[member], self.share_key[member] = keys[:32], keys[32:]
        self.rho = sha(label("roster"), self.digest, data)

    def box_key(self, own: Member, peer: int, sender: int, receiver: int) -> bytes:
        """Section 3, sealed."""
        public = X25519PublicKey.from_public_bytes(self.share_key[peer])
        secret = X25519PrivateKey.from_private_bytes(own.share_private).exchange(public)
        names = b"".join(number(m) + self.share_key[m] for m in (sender, receiver))
        return hkdf(self.digest, secret, label("share-encryption") + self.rho + names)

    def shares_message(self, own: Member, draw: Callable[[int], bytes]) -> bytes:
        """Section 3, kind 3, byte by byte."""
        k, t = self.terms["neighbours"], self.terms["threshold"]
        peers = [m for m in self.mask_key if m != own.member]
        holders = pick(peers, min(k, len(peers)), draw)
        seeds, masks = (shares_of(s, holders, t, draw) for s in (own.seed, own.mask_private))
        message = bytes([2, 3]) + self.digest + number(own.member)
        message += sha(label("self-mask-commitment"), self.digest, number(own.member), own.seed)
        message += number(len(holders), 4)
        for h in holders:
            nonce, key = draw(12), self.box_key(own, h, own.member, h)
            message += number(h) + nonce + AESGCM(key).encrypt(nonce, seeds[h] + masks[h], None)
        return message

    def unsealed(self, own: Member, sender: int, box: bytes) -> tuple[bytes, bytes]:
        plain = AESGCM(self.box_key(own, sender, sender, own.member)).decrypt(
            box[:12], box[12:], None
        )
        return plain[:66], plain[66:]

    def self_mask(self, member: int, seed: bytes) -> np.ndarray:
        """Section 3, packed."""
        info = label("self-mask") + number(member) + self.mask_key[member]
        return prg(hkdf(self.bound, seed, info), self.terms["dimension"])

    def pair_mask(self, member: int, private: bytes, peer: int) -> np.ndarray:
        """PRG(s_ij), with the sign that `member` gives it."""
        public = X25519PublicKey.from_public_bytes(self.mask_key[peer])
        secret = X25519PrivateKey.from_private_bytes(private).exchange(public)
        names = b"".join(number(m) + self.mask_key[m] for m in sorted((member, peer)))
        mask = prg(hkdf(self.bound, secret, label("pair-mask") + names), self.terms["dimension"])
        return mask if member < peer else -mask

    def statement(self, sharers: list[int], survivors: list[int]) -> bytes:
        """Section 3, confirmation."""
        lists = (number(len(m), 4) + b"".join(map(number, m)) for m in (sharers, survivors))
        return label("confirm") + self.bound + self.rho + b"".join(map(sha, lists))

    def residues(self, packed: bytes) -> np.ndarray:
        width = self.terms["bits"] // 8
        cells = [packed[at : at + width] for at in range(0, len(packed), width)]
        return np.array([int.from_bytes(cell, "little") for cell in cells], dtype=np.int64)

    def centred(self, total: np.ndarray) -> list[int]:
        half = 2 ** (self.terms["bits"] - 1)
        return [int(value + half) % (2 * half) - half for value in total]
