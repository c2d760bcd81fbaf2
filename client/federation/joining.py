"""Joining a federation, and leaving it.

The federation's two authorities, for TLS and for enrolment, are fetched without believing them and
compared with the one fingerprint that came with the invite; from then on they are the only ones
believed. The invite code is sent only after that, and only to a server that the TLS authority has
signed. No proxy, no other host.
"""

from __future__ import annotations

import hmac
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.enrolment import fingerprints
from common.enrolment.offer import PATH, Offer
from common.enrolment.protocol import (
    MAX_BYTES,
    Authorities,
    EnrolAnswer,
    EnrolRequest,
    LeaveRequest,
    Refusal,
    RenewRequest,
    read_code,
)
from common.errors import DecodeError, InputError, PrivityError, ProtocolError
from common.secagg import verify_certificate

DEADLINE_S = 30.0
WHOLE_S = 120.0
CLOCK_HINT = "Set this device's date and time, then try again."
LATER_HINT = "Check the address and the network, then try the same again."
OK, CONFLICT = 200, 409
Journal = Callable[[str, int], None]  # what is about to leave the device, and its bytes


class KnownKeysError(InputError):
    """A key that another invite has enrolled: the device needs new ones."""


@dataclass(frozen=True, slots=True)
class Membership:
    """What a device keeps of a federation it has joined.

    Attributes:
        url: `https://host:port`.
        ca_pem: The one authority that is believed.
        member: The device's number there, Flower's node id.
        certificate, authority: Signed by the enrolment authority; its public key (32 bytes).
        federation: Its name.
    """

    url: str
    ca_pem: bytes
    member: int
    certificate: bytes
    authority: bytes
    federation: str

    def __repr__(self) -> str:
        return f"Membership({self.url})"


def join(
    url: str,
    code: str,
    ca_fingerprint: str,
    device: Ed25519PrivateKey,
    node: ec.EllipticCurvePrivateKey,
    deadline_s: float = DEADLINE_S,
    journal: Journal = lambda *_: None,
) -> Membership:
    """Enrol this device with an invite.

    The same call again with the same keys is answered again, so that both keys must be stored
    before the first call and the membership after it.

    Args:
        url: `https://host:port`, or `host:port`.
        code: As the operator gave it.
        ca_fingerprint: Of both authorities, as the operator gave it, hex.
        node: Flower's node key, P-384.

    Raises:
        InputError: Address, code or fingerprint are wrong, or the server refused the code.
        KnownKeysError: The keys were enrolled with another code.
        PrivityError: The server cannot be reached, or it broke the protocol.
    """
    base, wanted, secret = read_url(url), fingerprints.read(ca_fingerprint), read_code(code)
    trusted = _authorities(base, wanted, deadline_s)
    ca_pem = trusted.tls_pem()
    node_key = node.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    request = EnrolRequest.signed(secret, device, node_key)
    content, trust = request.encode(), trusting(ca_pem)
    journal("enrol", len(content))
    body = _post(base, "/v1/enrol", content, trust, deadline_s)
    try:
        answer = EnrolAnswer.decode(body)
        _require_ours(answer, device, trusted.enrolment)
    except ProtocolError as error:
        problem = f"The server's answer is not an enrolment: {error.message}"
        raise PrivityError(problem, "Tell the operator; nothing was joined.") from None
    return Membership(
        base, ca_pem, answer.member, answer.certificate, answer.authority, answer.federation
    )


def offered(url: str, ca_fingerprint: str, deadline_s: float = DEADLINE_S) -> Offer:
    """What the federation at an address asks of devices; nothing of this one is told.

    Raises:
        InputError: Address or fingerprint are wrong.
        PrivityError: The server cannot be reached, or does not say.
    """
    base = read_url(url)
    wanted = fingerprints.read(ca_fingerprint)
    trust = trusting(_authorities(base, wanted, deadline_s).tls_pem())
    status, body = _exchange("GET", base + PATH, None, trust, deadline_s)
    try:
        if status != OK:
            raise DecodeError(f"status {status}")
        return Offer.decode(body)
    except DecodeError:
        problem = f"{base} does not say what its rounds ask, in a form that is known here."
        hint = "Install the version of Privity that its operator uses; nothing was joined."
        raise PrivityError(problem, hint) from None


def leave(
    membership: Membership,
    device: Ed25519PrivateKey,
    deadline_s: float = DEADLINE_S,
    clock: Callable[[], float] = time.time,
    journal: Journal = lambda *_: None,
) -> None:
    """Ask the operator to forget this device. Again is no error.

    Raises:
        InputError: The server refused.
        PrivityError: The server cannot be reached.
    """
    content = LeaveRequest.signed(membership.member, int(clock()), device).encode()
    journal("leave", len(content))
    _post(membership.url, "/v1/leave", content, trusting(membership.ca_pem), deadline_s)


def renew(
    membership: Membership,
    device: Ed25519PrivateKey,
    deadline_s: float = DEADLINE_S,
    clock: Callable[[], float] = time.time,
    journal: Journal = lambda *_: None,
) -> None:
    """Ask the operator to let this device's enrolment go on. Too early is no error.

    Raises:
        InputError: The server refused.
        PrivityError: The server cannot be reached.
    """
    content = RenewRequest.signed(membership.member, int(clock()), device).encode()
    journal("renew", len(content))
    _post(membership.url, "/v1/renew", content, trusting(membership.ca_pem), deadline_s)


def trusting(ca_pem: bytes) -> ssl.SSLContext:
    """TLS 1.3 with exactly one authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    return context


def read_url(text: str) -> str:
    """`https://host:port` from what a person typed.

    Raises:
        InputError: It is something else.
    """
    full = text.strip() if "://" in text else f"https://{text.strip()}"
    hint = "Give it as the operator did, like https://example.org:8443."
    try:
        parts = urlsplit(full)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InputError(f"{text[:100]!r} is not an address.", hint) from None
    extra = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme != "https" or extra or not re.fullmatch("[a-z0-9.:_-]+", host or ""):
        raise InputError(f"{text[:100]!r} is not the address of a federation.", hint)
    shown = f"[{host}]" if ":" in str(host) else str(host)
    return f"https://{shown}" if port is None else f"https://{shown}:{port}"


def _authorities(base: str, wanted: bytes, deadline_s: float) -> Authorities:
    """The authorities that the federation trusts, after checking their fingerprint."""
    believing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    believing.minimum_version = ssl.TLSVersion.TLSv1_3
    believing.check_hostname, believing.verify_mode = False, ssl.CERT_NONE
    status, body = _exchange("GET", f"{base}/v1/ca", None, believing, deadline_s)
    try:
        found = Authorities.decode(body) if status == 200 else None
    except ProtocolError:
        found = None
    if found is None:
        problem = f"{base} is not the gateway of a federation of this version."
        raise PrivityError(problem, LATER_HINT)
    digest = found.fingerprint()
    if hmac.compare_digest(digest, wanted):
        return found
    if hmac.compare_digest(fingerprints.of_certificate(found.tls), wanted):
        raise InputError(
            "The fingerprint is of an older version's invite, and covers one authority of two.",
            "Ask the operator for a new invite.",
        )
    raise InputError(
        f"The server's fingerprint is {fingerprints.spell(digest)}, not the one given.",
        "Compare it with the operator by another way; somebody may be in between.",
    )


def _require_ours(
    answer: EnrolAnswer, device: Ed25519PrivateKey, authority: Ed25519PublicKey
) -> None:
    if answer.authority != authority.public_bytes_raw():
        raise ProtocolError("it is of another enrolment authority than the invite's.")
    certificate = verify_certificate(answer.certificate, authority)
    if certificate.member != answer.member or certificate.device != device.public_key():
        raise ProtocolError("the certificate is another device's.")


def _post(base: str, path: str, body: bytes, trust: ssl.SSLContext, deadline_s: float) -> bytes:
    """The body of a granted request.

    Raises:
        InputError: Refused (4xx), in the server's words.
        PrivityError: Unreachable, or the server's own fault.
    """
    status, answer = _exchange("POST", base + path, body, trust, deadline_s)
    if status == 200:
        return answer
    try:
        refusal = Refusal.decode(answer)
    except DecodeError:
        refusal = Refusal(f"The server answered with status {status}.", LATER_HINT)
    if status == CONFLICT:
        raise KnownKeysError(refusal.error, refusal.hint)
    kind = InputError if 400 <= status < 500 else PrivityError
    raise kind(refusal.error, refusal.hint)


def _exchange(
    method: str, url: str, body: bytes | None, trust: ssl.SSLContext, deadline_s: float
) -> tuple[int, bytes]:
    """Status and body of an answer, bounded in size and time."""
    end = time.monotonic() + WHOLE_S
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    client = httpx.Client(
        verify=trust, timeout=deadline_s, trust_env=False, follow_redirects=False, headers=headers
    )
    found = bytearray()
    try:
        with client, client.stream(method, url, content=body) as response:
            for chunk in response.iter_raw():
                found += chunk
                if len(found) > MAX_BYTES or time.monotonic() > end:
                    raise PrivityError(f"The answer of {url} does not end.", LATER_HINT)
            return response.status_code, bytes(found)
    except httpx.HTTPError as error:
        raise _unreachable(url, error) from None


def _unreachable(url: str, error: httpx.HTTPError) -> PrivityError:
    """What a person can do about a connection that failed."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    where = url.rpartition("/v1/")[0]
    if cause is None:
        kind = "did not answer in time" if isinstance(error, httpx.TimeoutException) else ""
        return PrivityError(f"{where} {kind or 'cannot be reached'}.", LATER_HINT)
    if cause.verify_code in (9, 10):  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
        when = "is not valid yet" if cause.verify_code == 9 else "has expired"
        return PrivityError(f"By this device's clock, the server's certificate {when}.", CLOCK_HINT)
    if cause.verify_code in (
        62,
        64,
    ):  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        hint = "Use the address the operator gave; a new one must be added there first."
        return InputError(f"The server's certificate is not for {where}.", hint)
    hint = "Somebody may be in between; compare the fingerprint with the operator."
    return PrivityError("The server's certificate is not the authority's.", hint)
