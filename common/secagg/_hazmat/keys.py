"""Keys of one round: X25519 agreement, one HKDF-SHA256 label per use, AES-256-GCM for shares.

RFC 7748, RFC 5869. The salt is T, the digest of the terms, where shares are sealed, and T1, the
digest of terms and binding, where masks are made. Masks and share encryption use separate X25519
key pairs, since the mask key of a member that drops out is rebuilt in public (Bonawitz et al.
2017, figure 4: keys s and c).
"""

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.errors import ProtocolError
from common.secagg._hazmat.points import require_canonical_x25519
from common.secagg.wire import u64

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
_PAIR = b"privity/secagg/v2/pair-mask\x00"
_SHARE = b"privity/secagg/v2/share-encryption\x00"
_SELF = b"privity/secagg/v2/self-mask\x00"


@dataclass(frozen=True, slots=True)
class Party:
    """A member and one of its public keys, as they enter a key derivation."""

    member: int
    public: bytes

    def encode(self) -> bytes:
        """40 bytes: id, key."""
        return u64(self.member) + self.public


def public_key(private: bytes) -> bytes:
    """The X25519 public key of a private key; both 32 bytes."""
    return private_key(private).public_key().public_bytes_raw()


def private_key(raw: bytes) -> X25519PrivateKey:
    """The X25519 private key of 32 bytes, ready for any number of agreements."""
    return X25519PrivateKey.from_private_bytes(raw)


def agree(private: X25519PrivateKey, public: bytes) -> bytes:
    """The X25519 shared secret, 32 bytes.

    Raises:
        ProtocolError: The public key is of low order, so that the secret would be known to all.
    """
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise ProtocolError(f"X25519 key {public.hex()} is of low order.") from None


_ANY = private_key(b"\x40" * KEY_BYTES)


def require_contributory(public: bytes) -> None:
    """Refuse a public key with which every agreement gives the same secret, and a second spelling.

    Raises:
        ProtocolError: It is of low order, or not canonical.
    """
    require_canonical_x25519(public)
    agree(_ANY, public)  # the order shows with any private key


def pair_mask_key(bound: bytes, private: X25519PrivateKey, own: Party, peer: Party) -> bytes:
    """Key of the mask that two members share; the same from either side.

    Args:
        bound: T1, the digest of terms and binding.
        private: The mask private key of `own`.
        own: This side, with its mask public key.
        peer: The other side, with its mask public key.

    Raises:
        ProtocolError: The peer's key is of low order.
    """
    low, high = sorted((own, peer), key=lambda party: party.member)
    return _derive(bound, agree(private, peer.public), _PAIR + low.encode() + high.encode())


def self_mask_key(bound: bytes, seed: bytes, own: Party) -> bytes:
    """Key of a member's own mask from its seed b_i and its mask public key."""
    return _derive(bound, seed, _SELF + own.encode())


def share_key(terms: bytes, secret: bytes, roster: bytes, sender: Party, receiver: Party) -> bytes:
    """Key under which `sender` encrypts its shares to `receiver`; the two directions differ.

    Args:
        terms: T, the digest of the terms.
        secret: X25519 secret of the two share keys.
        roster: Digest of the roster, so that members shown different rosters cannot read on.
        sender: Who encrypts.
        receiver: Who decrypts.
    """
    return _derive(terms, secret, _SHARE + roster + sender.encode() + receiver.encode())


def seal(key: bytes, plaintext: bytes, random: Callable[[int], bytes]) -> bytes:
    """AES-256-GCM: nonce, ciphertext, tag.

    Each key seals one plaintext. The nonce is drawn all the same, so that a device whose storage
    was rolled back does not encrypt two plaintexts under one key and nonce.
    """
    nonce = random(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, None)


def unseal(key: bytes, sealed: bytes) -> bytes:
    """Open what `seal` made.

    Raises:
        ProtocolError: Other key, or altered bytes.
    """
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], None)
    except InvalidTag:
        raise ProtocolError("Encrypted shares do not authenticate.") from None


def _derive(salt: bytes, secret: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt, info).derive(secret)
