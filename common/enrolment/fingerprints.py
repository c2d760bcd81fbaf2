"""Fingerprints: how keys, certificates and adapters are named to people, all by SHA-256.

There are two spellings. A digest that trust rests on is shown whole, `AB:CD:…`, because whoever
can choose keys can find two that begin alike. An adapter's digest only tells versions apart, for
which its first digits are enough; commands take them as a name.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from common.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.x509 import Certificate

SHORT_DIGITS = 12  # of an adapter's digest; 80 columns hold the table of versions
_FEDERATION_DOMAIN = b"privity/federation/v1\x00"


def of_federation(tls: Certificate, enrolment: Ed25519PublicKey) -> bytes:
    """The one digest, 32 bytes, by which an invite commits to both authorities of a federation."""
    pair = of_certificate(tls) + enrolment.public_bytes_raw()
    return hashlib.sha256(_FEDERATION_DOMAIN + pair).digest()


def of_certificate(certificate: Certificate) -> bytes:
    """SHA-256 of the certificate's DER, 32 bytes; invites of older versions have this one."""
    from cryptography.hazmat.primitives.hashes import SHA256

    return certificate.fingerprint(SHA256())


def spell(digest: bytes) -> str:
    """A fingerprint as a person compares it: `AB:CD:…`."""
    return digest.hex(":").upper()


def read(text: str) -> bytes:
    """The 32 bytes of a fingerprint in hex; colons, spaces and case do not matter.

    Raises:
        InputError: It is not the SHA-256 of anything.
    """
    digits = re.sub(r"[\s:]", "", re.sub(r"^\s*sha-?256[:=\s]", "", text, flags=re.IGNORECASE))
    if not re.fullmatch("[0-9a-fA-F]{64}", digits):
        raise InputError(
            f"The fingerprint {text[:100]!r} is not 64 hex digits.",
            "Copy it from what `privity-server invite` printed.",
        )
    return bytes.fromhex(digits)


def short(digest: str) -> str:
    """The beginning of an adapter's digest (hex), as lists show it."""
    return digest[:SHORT_DIGITS]
