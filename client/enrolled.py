"""What a device knows of who is enrolled, and holds a round against (common/enrolment_log.py).

Every entry of the log is kept: so nobody can take one back, and the person can see by how many
devices the federation grew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.store import Store
from common.enrolment_log import EnrolmentLog, opened
from common.errors import ProtocolError
from common.secagg import RoundTerms
from common.secagg.messages import decode_roster
from common.secagg.wire import Reader

LOG, BEFORE = OF_ENROLMENT = "enrolment/log", "enrolment/before"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The log as this device knows it, kept in its store.

    Args:
        clock: Seconds since 1970.
    """

    store: Store
    authority: Ed25519PublicKey
    clock: Callable[[], float] = field(default=time.time)

    def log(self) -> EnrolmentLog:
        """All that is known; empty before the first round."""
        return opened(self.authority, self.store.get(LOG) or b"")

    def require_log(self, terms: RoundTerms, part: bytes) -> None:
        """Take over what came with the terms, which must be about the log as it is then.

        Raises:
            ProtocolError: The terms are about none or another one, or the part is refused.
        """
        if not terms.log_size:
            raise ProtocolError("the terms name no enrolment log.")
        log = self.log()
        known, before = log.size, log.enrolled()
        if part:
            log.extend(part)
        if (log.size, log.head.hex()) != (terms.log_size, terms.log_head):
            raise ProtocolError(f"the terms are not about the enrolment log of {log.size} entries.")
        if log.size > known:
            with self.store.together():
                self.store.put(LOG, log.part())
                self.store.put(BEFORE, str(before).encode())

    def require_roster(self, terms: RoundTerms, roster: bytes) -> None:
        """Check that everybody in a roster is enrolled now with the key it shows.

        Signatures are the secure sum's to check.

        Raises:
            ProtocolError: Somebody is not.
        """
        log, now = self.log(), self.clock()
        for member, advert in decode_roster(terms.digest(), roster).items():
            reader = Reader(advert.certificate, "Certificate")
            reader.take(1 + 8)
            log.require(member, reader.take(32), now)

    def words(self, member: int) -> str:
        """For the person: how many are enrolled, by how much that grew last, and whether they are.

        Args:
            member: This device's number.
        """
        log = self.log()
        if not log.size:
            return "not known before the first round"
        before = int(self.store.get(BEFORE) or b"0")
        grown = log.enrolled() - before
        change = f", {grown:+d} since it changed last" if before else ""
        own = log.members.get(member)
        if own is None or own.gone or own.until < self.clock():
            change += "; this one no longer: ask the operator, leave and join with a new invite"
        return f"{log.enrolled()} devices{change}"
