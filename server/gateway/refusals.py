"""What was refused: counted by reason, and told in one line each, without content.

A line gives address, method, path and reason. A path that is not open is shown only where it looks
like one of Flower's, so that nothing a person put into an address by mistake (an invite code)
reaches the log. A flood of refusals is told by samples: at most ten lines a second, and how many
were left out.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable

log = logging.getLogger("privity.gateway")

LINES_PER_SECOND = 10


class Refused(Exception):  # noqa: N818
    """A request that is not served.

    Args:
        status: HTTP status; 0: the connection is closed without an answer.
        reason: A few words for the log.
        body: JSON for the device, mostly empty.
    """

    def __init__(self, status: int, reason: str, body: bytes = b"") -> None:
        super().__init__(reason)
        self.status, self.reason, self.body = status, reason, body


def shown(target: bytes) -> str:
    """A request's target as the log may show it."""
    return target.decode() if re.fullmatch(rb"/v1/[a-z]{1,12}(/[a-z-]{1,25})?", target) else "…"


class Refusals:
    """Counts and log lines.

    Attributes:
        counts: How often each reason occurred.

    Args:
        clock: Seconds, never set back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.counts: Counter[str] = Counter()
        self._second, self._lines, self._silent = clock(), 0, 0

    def note(self, source: str, what: str, reason: str) -> None:
        """Count a refusal and tell it."""
        self.counts[reason] += 1
        now = self._clock()
        if now - self._second >= 1:
            if self._silent:
                log.warning("%d more refusals were not told one by one", self._silent)
            self._second, self._lines, self._silent = now, 0, 0
        if self._lines >= LINES_PER_SECOND:
            self._silent += 1
            return
        self._lines += 1
        log.warning("refused %s %s: %s", source, what, reason)
