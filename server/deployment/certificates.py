"""The federation's own TLS authority and the server certificate it signs.

Devices trust exactly this authority, whose fingerprint they get by another way together with the
invite; no public authority and no name service is believed. ECDSA P-256; RFC 5280 extensions.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import InputError

AUTHORITY_LIFE = timedelta(days=3652)
SERVER_LIFE = timedelta(days=397)
RENEWED_WITHIN = timedelta(days=30)
BACKDATED = timedelta(days=1)  # for devices whose clock is behind
ALWAYS_NAMED = ("localhost", "127.0.0.1", "::1")
MAX_COMMON_NAME = 64  # RFC 5280, ub-common-name


@dataclass(frozen=True, slots=True)
class Keyed:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"Keyed({self.certificate.subject.rfc4514_string()})"

    def certificate_pem(self) -> bytes:
        """The certificate, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """The private key, PKCS8 PEM, not encrypted: the file's mode protects it."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def new_authority(name: str, now: datetime | None = None) -> Keyed:
    """A self-signed authority for ten years, which can sign servers and no further authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(f"{name} (Privity CA)")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _builder(subject, subject, key, AUTHORITY_LIFE, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(_signed_by(identifier), critical=False)
    )
    return Keyed(builder.sign(key, hashes.SHA256()), key)


def new_server(authority: Keyed, names: Iterable[str], now: datetime | None = None) -> Keyed:
    """A server certificate for 397 days, with `names`, localhost and the loopback addresses.

    Raises:
        InputError: A name is neither a host name nor an address.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = [_alternative(name) for name in _all(names)]
    theirs = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _builder(_subject("Privity"), authority.certificate.subject, key, SERVER_LIFE, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(own, critical=False)
        .add_extension(_signed_by(theirs.value), critical=False)
    )
    return Keyed(builder.sign(authority.key, hashes.SHA256()), key)


def renewed(
    server: Keyed, authority: Keyed, names: Iterable[str], now: datetime | None = None
) -> Keyed | None:
    """A new server certificate where the old one ends within 30 days, has other names, or is not
    this authority's; None where it will do.
    """
    left = server.certificate.not_valid_after_utc - (now or datetime.now(UTC))
    if left > RENEWED_WITHIN and _names(server) == _all(names) and _signed(server, authority):
        return None
    return new_server(authority, names, now)


def require_name(name: str) -> None:
    """Check that a certificate can carry this name.

    Raises:
        InputError: It is neither a host name nor an address.
    """
    _alternative(_plain(name))


def load_certificate(pem: bytes) -> x509.Certificate:
    """A certificate.

    Raises:
        InputError: It is damaged.
    """
    try:
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise InputError("A certificate cannot be read.", "Restore keys/.") from None


def load(certificate_pem: bytes, key_pem: bytes) -> Keyed:
    """A certificate and its key.

    Raises:
        InputError: They are damaged or do not belong together.
    """
    try:
        certificate = load_certificate(certificate_pem)
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, UnsupportedAlgorithm):
        raise InputError("A certificate's key cannot be read.", "Restore keys/.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError("A certificate's key is not an EC key.", "Restore keys/.")
    if key.public_key() != certificate.public_key():
        raise InputError("A certificate and its key do not belong together.", "Restore keys/.")
    return Keyed(certificate, key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    life: timedelta,
    now: datetime | None,
) -> x509.CertificateBuilder:
    start = now or datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - BACKDATED)
        .not_valid_after(start + life)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:MAX_COMMON_NAME])])


def _signed_by(identifier: x509.SubjectKeyIdentifier) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _usage(*allowed: str) -> x509.KeyUsage:
    every = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{use: use in allowed for use in every})


def _all(names: Iterable[str]) -> set[str]:
    return {_plain(name) for name in (*names, *ALWAYS_NAMED)}


def _plain(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower()


def _alternative(name: str) -> x509.GeneralName:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        address = None
    if address and "%" not in name:  # a zone means something on one machine only
        return x509.IPAddress(address)
    label = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
    if len(name) > 253 or not re.fullmatch(rf"(\*\.)?{label}(\.{label})*", name):
        problem = f"{name[:100]!r} is neither a host name nor an address."
        raise InputError(problem, "Correct `names` under [gateway].")
    return x509.DNSName(name)


def _names(server: Keyed) -> set[str]:
    try:
        kind = x509.SubjectAlternativeName
        names = server.certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return set()
    found = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    return found | set(names.get_values_for_type(x509.DNSName))


def _signed(server: Keyed, authority: Keyed) -> bool:
    try:
        server.certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
