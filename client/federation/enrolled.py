"""What a device knows of who is enrolled, and holds a round against (common/enrolment/log.py).

Every entry of the log is kept: so nobody can take one back, and the person can see how many
devices came and left. Whether others are shown the same log, people see who compare its head.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.vault.store import Store
from common.enrolment.log import DAY_S, EnrolmentLog, EntryKind, Standing, opened
from common.errors import ProtocolError
from common.secagg import RoundTerms
from common.secagg.messages import decode_roster
from common.secagg.wire import Reader, u8, u32, u64

LOG, GROWTH = OF_ENROLMENT = "enrolment/log", "enrolment/growth"
GROWTH_VERSION = 1
SHOWN_DAYS = 30  # over which growth is summed up, so that none is hidden by news that come after it
HEAD_DIGITS = 16  # of the log's head, for people to compare


@dataclass(frozen=True, slots=True)
class KnownLog:
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
        known = log.size
        if part:
            log.extend(part)
        if (log.size, log.head.hex()) != (terms.log_size, terms.log_head):
            raise ProtocolError(f"the terms are not about the enrolment log of {log.size} entries.")
        if log.size > known:
            with self.store.together():
                self.store.put(LOG, log.part())
                self._note_growth(known or log.size)

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
        """Say how many are enrolled, how many came and left, and whether this device is.

        Args:
            member: This device's number.
        """
        log = self.log()
        if not log.size:
            return "not known before the first round"
        first_day = self._today() - SHOWN_DAYS
        recent = [size for day, size in self._growth() if day >= first_day]
        since = min(recent, default=log.size)
        news = [entry.kind for entry in log.entries()[since:]]
        own = log.members.get(member)
        return (
            f"{log.enrolled()} devices{_own_words(own, self.clock())};"
            f" in the last {SHOWN_DAYS} days this one saw"
            f" {news.count(EntryKind.ENROLLED)} come and {news.count(EntryKind.GONE)} leave;"
            f" the log's head after {log.size} entries is {log.head.hex()[:HEAD_DIGITS]}:"
            " whoever has as many must have the same"
        )

    def _growth(self) -> list[tuple[int, int]]:
        """On which days the log grew, and its size before: (day since 1970, entries).

        A day that is ahead, of a clock that was set back since, counts as today. None is dropped,
        as a clock may be wrong: they are fewer than the log's entries.
        """
        stored, today = self.store.get(GROWTH), self._today()
        if stored is None:
            return []
        reader = Reader(stored, "Growth of the enrolment log")
        reader.expect(u8(GROWTH_VERSION), "version")
        points = [(min(reader.u64(), today), reader.u64()) for _ in range(reader.u32())]
        reader.end()
        return points

    def _note_growth(self, before: int) -> None:
        """Note that the log grows today; only the size before the day's first growth counts."""
        points, today = self._growth(), self._today()
        if not any(day == today for day, _ in points):
            points.append((today, before))
        content = b"".join(u64(day) + u64(size) for day, size in points)
        self.store.put(GROWTH, u8(GROWTH_VERSION) + u32(len(points)) + content)

    def _today(self) -> int:
        return int(self.clock() // DAY_S)


def _own_words(own: Standing | None, now: float) -> str:
    """Whether the device itself is enrolled, where it is not."""
    again = "ask the operator for a new invite, leave, and join with it"
    if own is None or own.gone:
        return f", this one no longer: {again}"
    if own.until < now:
        ended = "by the log of the last round, its enrolment has ended"
        return f"; {ended}: unless it was renewed since, {again}"
    return ""
