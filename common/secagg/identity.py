"""Device identities: an enrolment authority signs which Ed25519 key is which member's.

A certificate is version, member, device key and the authority's signature, always 105 bytes.
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.errors import ProtocolError
from common.secagg._hazmat.points import require_ed25519
from common.secagg.wire import U64_MAX, Reader, u8, u64

CERTIFICATE_BYTES = 105
VERSION = 1
_DOMAIN = b"privity/secagg/v2/certificate\x00"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A verified certificate: `member` holds the private key of `device`."""

    member: int
    device: Ed25519PublicKey


def certify(
    authority_private: Ed25519PrivateKey, member_id: int, device_public: Ed25519PublicKey
) -> bytes:
    """Sign that `device_public` is the key of member `member_id`, an integer in [0, 2^64).

    Raises:
        ProtocolError: The id is out of range.
    """
    if not 0 <= member_id <= U64_MAX:
        raise ProtocolError(f"Member id {member_id} is outside [0, 2^64).")
    body = u8(VERSION) + u64(member_id) + device_public.public_bytes_raw()
    return body + authority_private.sign(_DOMAIN + body)


def verify_certificate(certificate: bytes, authority: Ed25519PublicKey) -> Certificate:
    """Open a certificate.

    Raises:
        DecodeError: Not a certificate of a known version.
        ProtocolError: The authority did not sign it, or the key is one that others can sign for.
    """
    reader = Reader(certificate, "Certificate")
    reader.expect(u8(VERSION), "version")
    member = reader.u64()
    device = reader.take(32)
    signature = reader.take(64)
    reader.end()
    verify(authority, signature, _DOMAIN + certificate[:-64], f"Certificate of member {member}")
    return Certificate(member, device_key(device))


def device_key(raw: bytes) -> Ed25519PublicKey:
    """The Ed25519 key of these 32 bytes.

    Raises:
        ProtocolError: A second spelling of a key, or a key of small order.
    """
    require_ed25519(raw)
    return Ed25519PublicKey.from_public_bytes(raw)


def verify(key: Ed25519PublicKey, signature: bytes, message: bytes, what: str) -> None:
    """Check an Ed25519 signature.

    Raises:
        ProtocolError: It does not hold.
    """
    try:
        key.verify(signature, message)
    except InvalidSignature:
        raise ProtocolError(f"{what}: the signature does not hold.") from None
