"""Answers enrolment requests: bytes in, status and bytes out, whatever comes in.

An address that brings ten wrong codes within ten minutes is sent away until they have aged. Codes
have 128 bits and cannot be guessed; this keeps the attempts from costing anything.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.enrolment.protocol import EnrolAnswer, EnrolRequest, LeaveRequest, Refusal, RenewRequest
from common.errors import DecodeError, ProtocolError
from server.enrolment.enrolment import Enrolment, EnrolmentRefused, Register, Unregister

log = logging.getLogger("privity.server")

MAX_WRONG = 10
WRONG_WINDOW_S = 600.0
MAX_SOURCES = 10_000


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP status, the JSON that goes with it, and the reason a log may give."""

    status: int
    body: bytes
    reason: str = ""


class Desk:
    """The enrolment desk of a federation.

    Args:
        register: As `Enrolment.redeem` wants it; may block.
        unregister: As `Enrolment.revoke` wants it; may block.
        clock: Seconds, never set back.
    """

    def __init__(
        self,
        enrolment: Enrolment,
        authority: Ed25519PrivateKey,
        federation: str,
        register: Register,
        unregister: Unregister,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._enrolment, self._authority, self._federation = enrolment, authority, federation
        self._register, self._unregister = register, unregister
        self._wrong = WrongCodes(clock)

    def answer(self, what: str, body: bytes, source: str) -> Reply:
        """Answer a request from an address; `what` is `enrol`, `leave` or `renew`."""
        acts = {"enrol": self.enrol, "leave": self.leave, "renew": self.renew}
        if what not in acts:
            return _refused(400, "Nothing of this name can be asked for.", "")
        return acts[what](body, source)

    def enrol(self, body: bytes, source: str) -> Reply:
        """Answer `POST /v1/enrol` from an address."""
        return self._answered(self._enrol, body, source)

    def leave(self, body: bytes, source: str) -> Reply:
        """Answer `POST /v1/leave` from an address."""
        return self._answered(self._leave, body, source)

    def renew(self, body: bytes, source: str) -> Reply:
        """Answer `POST /v1/renew` from an address."""
        return self._answered(self._renew, body, source)

    def _enrol(self, body: bytes) -> bytes:
        request = EnrolRequest.decode(body)
        done = self._enrolment.redeem(request, self._authority, self._register)
        public = self._authority.public_key().public_bytes_raw()
        log.info("member %d is enrolled", done.member)
        return EnrolAnswer(done.member, done.certificate, public, self._federation).encode()

    def _leave(self, body: bytes) -> bytes:
        request = LeaveRequest.decode(body)
        self._enrolment.leave(request, self._unregister)
        log.info("member %d has left", request.member)
        return b"{}"

    def _renew(self, body: bytes) -> bytes:
        self._enrolment.renew(RenewRequest.decode(body))
        return b"{}"

    def _answered(self, act: Callable[[bytes], bytes], body: bytes, source: str) -> Reply:
        try:
            self._wrong.require_few(source)
            return Reply(200, act(body))
        except EnrolmentRefused as error:
            if error.status == 403:
                self._wrong.note(source)
            return _refused(error.status, error.message, error.hint)
        except (DecodeError, ProtocolError) as error:
            self._wrong.note(source)
            return _refused(400, error.message, error.hint)
        except Exception as error:
            log.error("enrolment failed: %s", type(error).__name__)
            hint = "Try the same again in a minute; the code stays good for this device."
            return _refused(503, "The server could not finish this now.", hint)


def _refused(status: int, error: str, hint: str) -> Reply:
    return Reply(status, Refusal(error, hint).encode(), error)


@dataclass(slots=True)
class WrongCodes:
    """How many refused requests each address brought lately; the oldest addresses are forgotten."""

    clock: Callable[[], float]
    _times: OrderedDict[str, list[float]] = field(default_factory=OrderedDict)

    def note(self, source: str) -> None:
        """Count one."""
        times = [*self._recent(source), self.clock()]
        self._times[source] = times
        self._times.move_to_end(source)
        if len(self._times) > MAX_SOURCES:
            self._times.popitem(last=False)

    def require_few(self, source: str) -> None:
        """Send an address with too many away.

        Raises:
            EnrolmentRefused: 429.
        """
        if len(self._recent(source)) >= MAX_WRONG:
            minutes = round(WRONG_WINDOW_S / 60)
            hint = f"Wait {minutes} minutes, then check the code."
            raise EnrolmentRefused(429, "Too many wrong attempts from this address.", hint)

    def _recent(self, source: str) -> list[float]:
        since = self.clock() - WRONG_WINDOW_S
        return [at for at in self._times.get(source, ()) if at > since]
