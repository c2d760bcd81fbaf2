"""How a device and an operator meet: invite codes and the messages of enrolment.

An invite code is 128 random bits; only its digest is kept by the operator. A device proves that it
holds the key it enrols by signing code and keys together, so nobody who sees one part can use it
with another. Messages are JSON objects of a known version and bounded size; an unknown key, a key
given twice, a wrong type or base64 with a second spelling is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.enrolment import fingerprints
from common.errors import DecodeError, InputError, ProtocolError
from common.secagg.identity import CERTIFICATE_BYTES, device_key, verify
from common.secagg.wire import U64_MAX, blob, u64

VERSION = 1
MAX_BYTES = 16 * 1024
CODE_BYTES = 16
KEY_BYTES = 32
SIGNATURE_BYTES = 64
MAX_NODE_KEY_BYTES = 512
MAX_NAME = 100
MAX_SENTENCE = 500
_CHECK_BITS = 12  # so that code and check fill 28 letters, and a slip of the pen is noticed at once
_CODE_LETTERS = (CODE_BYTES * 8 + _CHECK_BITS) // 5
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"  # base32, RFC 4648
_DIGITS = str.maketrans(_LETTERS, "0123456789abcdefghijklmnopqrstuv")  # as Python reads base 32
_GROUP = 4
_ENROL_DOMAIN = b"privity/enrol/v1\x00"
_LEAVE_DOMAIN = b"privity/leave/v1\x00"
_RENEW_DOMAIN = b"privity/renew/v1\x00"
_PUBLIC_KEY = re.compile(b"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----\n", re.DOTALL)
_CODE_DOMAIN = b"privity/invite/v1\x00"


def new_code() -> bytes:
    """A fresh invite code: 16 random bytes."""
    return os.urandom(CODE_BYTES)


def spell_code(code: bytes) -> str:
    """The code as a person gets it: base32 with a check, `ABCD-EFGH-…`, seven groups of four."""
    number = int.from_bytes(code, "big") << _CHECK_BITS | _check(code)
    text = "".join(_LETTERS[number >> 5 * place & 31] for place in reversed(range(_CODE_LETTERS)))
    return "-".join(text[at : at + _GROUP] for at in range(0, _CODE_LETTERS, _GROUP))


def read_code(text: str) -> bytes:
    """The code a person typed; case, spaces and hyphens do not matter.

    Raises:
        InputError: It is not an invite code, or has a slip in it. The message does not repeat it.
    """
    letters = re.sub(r"[\s-]", "", text).upper()
    if re.fullmatch(f"[{_LETTERS}]{{{_CODE_LETTERS}}}", letters):
        number = int(letters.translate(_DIGITS), 32)
        code = (number >> _CHECK_BITS).to_bytes(CODE_BYTES, "big")
        if number & ((1 << _CHECK_BITS) - 1) == _check(code):
            return code
    raise InputError(
        f"The invite code is not one: it has {len(letters)} letters or a slip in it.",
        f"A code has {_CODE_LETTERS} letters and digits, like ABCD-EFGH-…; copy it whole.",
    )


def code_digest(code: bytes) -> bytes:
    """What the operator keeps of a code: SHA-256."""
    return hashlib.sha256(_CODE_DOMAIN + code).digest()


def _check(code: bytes) -> int:
    digest = hashlib.sha256(_CODE_DOMAIN + b"check" + code).digest()
    return int.from_bytes(digest[:2], "big") >> 16 - _CHECK_BITS


@dataclass(frozen=True, slots=True)
class Authorities:
    """The two authorities that all devices of a federation trust: for TLS, and for who is enrolled.

    Attributes:
        tls: The TLS authority's certificate.
        enrolment: The enrolment authority's key.
    """

    tls: x509.Certificate
    enrolment: Ed25519PublicKey

    def fingerprint(self) -> bytes:
        """The one digest that an invite commits to both by, 32 bytes."""
        return fingerprints.of_federation(self.tls, self.enrolment)

    def tls_pem(self) -> bytes:
        """The TLS authority's certificate, PEM."""
        return self.tls.public_bytes(serialization.Encoding.PEM)

    def encode(self) -> bytes:
        """Certificate and key, PEM: what `GET /v1/ca` answers."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.tls_pem() + self.enrolment.public_bytes(serialization.Encoding.PEM, form)

    @classmethod
    def decode(cls, data: bytes) -> Authorities:
        """Read what `encode` wrote, and nothing else.

        Raises:
            DecodeError: Anything else.
        """
        try:
            keys = _PUBLIC_KEY.findall(data)
            tls = x509.load_pem_x509_certificate(data)
            key = serialization.load_pem_public_key(keys[0] if keys else b"")
        except (ValueError, UnsupportedAlgorithm):
            raise DecodeError("Not a certificate and a key in PEM.") from None
        if not isinstance(key, Ed25519PublicKey) or cls(tls, key).encode() != data:
            raise DecodeError("Not one certificate and one Ed25519 key in PEM.")
        return cls(tls, device_key(key.public_bytes_raw()))


def require_node_key(node_key: bytes) -> None:
    """Check that these are the bytes Flower uses for a P-384 public key, in their one spelling.

    Raises:
        DecodeError: They are not.
    """
    try:
        key = serialization.load_pem_public_key(node_key)
    except (ValueError, UnsupportedAlgorithm):
        raise DecodeError("node_key is not a public key in PEM.") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise DecodeError("node_key is not a key on the curve P-384.")
    spelt = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    if spelt != node_key:
        raise DecodeError("node_key is not in the spelling Flower uses.")


@dataclass(frozen=True, slots=True)
class EnrolRequest:
    """A device asks to be enrolled. `code`, 16 bytes; keys as in the design; `proof`, 64 bytes."""

    code: bytes
    device_key: bytes
    node_key: bytes
    proof: bytes

    def __repr__(self) -> str:
        return "EnrolRequest(code=…)"

    @classmethod
    def signed(cls, code: bytes, device: Ed25519PrivateKey, node_key: bytes) -> EnrolRequest:
        """The request of the holder of `device`."""
        device_key = device.public_key().public_bytes_raw()
        return cls(code, device_key, node_key, device.sign(_proof(code, device_key, node_key)))

    def verify(self) -> None:
        """Check the proof.

        Raises:
            ProtocolError: The holder of the device key did not sign this.
        """
        message = _proof(self.code, self.device_key, self.node_key)
        verify(_ed25519(self.device_key), self.proof, message, "Enrolment request")

    def encode(self) -> bytes:
        """JSON."""
        return _encode(
            code=spell_code(self.code),
            device_key=_b64(self.device_key),
            node_key=_b64(self.node_key),
            proof=_b64(self.proof),
        )

    @classmethod
    def decode(cls, data: bytes) -> EnrolRequest:
        """Read what `encode` wrote.

        Raises:
            DecodeError: Anything else.
        """
        fields = _Fields(data, "code", "device_key", "node_key", "proof")
        try:
            code = read_code(fields.text("code", MAX_NAME))
        except InputError as error:
            raise DecodeError(error.message, error.hint) from None
        node_key = fields.blob("node_key", at_most=MAX_NODE_KEY_BYTES)
        require_node_key(node_key)
        device_key = fields.blob("device_key", KEY_BYTES)
        _ed25519(device_key)
        return cls(code, device_key, node_key, fields.blob("proof", SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True)
class EnrolAnswer:
    """What an enrolled device gets: its number, its certificate, who certified it, and for whom."""

    member: int
    certificate: bytes
    authority: bytes
    federation: str

    def encode(self) -> bytes:
        """JSON."""
        return _encode(
            member=str(self.member),
            certificate=_b64(self.certificate),
            authority=_b64(self.authority),
            federation=self.federation,
        )

    @classmethod
    def decode(cls, data: bytes) -> EnrolAnswer:
        """Read what `encode` wrote; whether the certificate holds is for the device to check.

        Raises:
            DecodeError: Anything else.
        """
        fields = _Fields(data, "member", "certificate", "authority", "federation")
        return cls(
            fields.member(),
            fields.blob("certificate", CERTIFICATE_BYTES),
            fields.blob("authority", KEY_BYTES),
            fields.text("federation", MAX_NAME),
        )


@dataclass(frozen=True, slots=True)
class MemberRequest:
    """What a member asks for itself. `at`: seconds since 1970 by the device's clock."""

    domain: ClassVar[bytes]
    what: ClassVar[str]
    member: int
    at: int
    signature: bytes

    @classmethod
    def signed(cls, member: int, at: int, device: Ed25519PrivateKey) -> Self:
        """The request of the holder of `device`."""
        return cls(member, at, device.sign(cls.domain + u64(member) + u64(at)))

    def verify(self, device_key: bytes) -> None:
        """Check that the member itself asks.

        Raises:
            ProtocolError: It did not sign this.
        """
        message = self.domain + u64(self.member) + u64(self.at)
        verify(_ed25519(device_key), self.signature, message, self.what)

    def encode(self) -> bytes:
        """JSON."""
        return _encode(member=str(self.member), at=self.at, signature=_b64(self.signature))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote.

        Raises:
            DecodeError: Anything else.
        """
        fields = _Fields(data, "member", "at", "signature")
        signature = fields.blob("signature", SIGNATURE_BYTES)
        return cls(fields.member(), fields.number("at"), signature)


class LeaveRequest(MemberRequest):
    """A device asks to be forgotten."""

    __slots__ = ()
    domain, what = _LEAVE_DOMAIN, "Request to leave"


class RenewRequest(MemberRequest):
    """A device asks that its enrolment goes on."""

    __slots__ = ()
    domain, what = _RENEW_DOMAIN, "Request to renew"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something was refused, in one sentence, and what to do."""

    error: str
    hint: str = ""

    def encode(self) -> bytes:
        """JSON; a refusal carries no version, as a device may not know the server's."""
        return json.dumps({"error": self.error, "hint": self.hint}).encode()

    @classmethod
    def decode(cls, data: bytes) -> Refusal:
        """Read what `encode` wrote, without characters that move a terminal's cursor.

        Raises:
            DecodeError: Anything else.
        """
        fields = _object(data)
        if set(fields) != {"error", "hint"}:
            raise DecodeError("A refusal has the keys error and hint.")
        words = (_printable(fields["error"]), _printable(fields["hint"]))
        return cls(*words)


def _proof(code: bytes, device_key: bytes, node_key: bytes) -> bytes:
    return _ENROL_DOMAIN + blob(code) + blob(device_key) + blob(node_key)


def _ed25519(key: bytes) -> Ed25519PublicKey:
    try:
        return device_key(key)
    except ProtocolError as error:
        raise DecodeError(error.message) from None


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _encode(**fields: str | int) -> bytes:
    return json.dumps({"version": VERSION, **fields}).encode()


def _printable(value: Any) -> str:
    if not isinstance(value, str):
        raise DecodeError("A refusal's words must be text.")
    return "".join(letter for letter in value[:MAX_SENTENCE] if letter.isprintable())


def _object(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise DecodeError(f"{len(data)} bytes are more than the {MAX_BYTES} of a message.")
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise DecodeError("Not one JSON object with each key once.") from None
    if not isinstance(found, dict):
        raise DecodeError("Not a JSON object.")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError
    return fields


class _Fields:
    """The fields of one message, taken out by type."""

    def __init__(self, data: bytes, *names: str) -> None:
        self._fields = _object(data)
        version = self._fields.get("version")
        if type(version) is not int or version != VERSION:
            raise DecodeError(f"Only version {VERSION} of enrolment messages is known.")
        if set(self._fields) != {"version", *names}:
            raise DecodeError(f"The keys must be version, {', '.join(names)}.")

    def text(self, name: str, at_most: int) -> str:
        value = self._fields[name]
        if not isinstance(value, str) or not 0 < len(value) <= at_most or not value.isprintable():
            raise DecodeError(f"{name} must be 1 to {at_most} printable characters.")
        return value

    def number(self, name: str) -> int:
        value = self._fields[name]
        if type(value) is not int or not 0 <= value <= U64_MAX:
            raise DecodeError(f"{name} must be a whole number in [0, 2^64).")
        return value

    def member(self) -> int:
        value = self.text("member", 20)
        if not re.fullmatch("0|[1-9][0-9]*", value) or int(value) > U64_MAX:
            raise DecodeError("member must be a decimal number in [0, 2^64).")
        return int(value)

    def blob(self, name: str, length: int | None = None, *, at_most: int = 0) -> bytes:
        value = self.text(name, MAX_BYTES)
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise DecodeError(f"{name} is not base64.") from None
        if _b64(data) != value:
            raise DecodeError(f"{name} is not in its one base64 spelling.")
        if len(data) > at_most if length is None else len(data) != length:
            wanted = f"at most {at_most}" if length is None else str(length)
            raise DecodeError(f"{name} has {len(data)} bytes, wanted {wanted}.")
        return data
