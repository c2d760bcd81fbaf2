"""The server certificate is renewed while the federation is up, not only when it starts.

It is looked at once a day. The SuperLink reads it when it starts, so that it is started again. That
waits for a moment without a round: a week at most, of the thirty days that the old one has left.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from common.errors import PrivityError
from server.deployment.place import Place
from server.deployment.supervisor import Supervisor
from server.registry.goal import round_under_way

DAY_S = 86_400.0
PATIENCE_S = 7 * DAY_S


@dataclass(slots=True)
class Renewal:
    """Call `tend` again and again.

    Args:
        clock: Seconds, never set back.
    """

    place: Place
    supervisor: Supervisor
    tell: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _due: float = field(init=False)

    def __post_init__(self) -> None:
        self._due = self.clock() + DAY_S

    def tend(self) -> None:
        """Renew the certificate if it is time to, and have the processes take it up."""
        late_s = self.clock() - self._due
        if late_s < 0 or (late_s < PATIENCE_S and round_under_way(self.place.federation)):
            return
        self._due = self.clock() + DAY_S
        try:
            renewed = self.place.renew(self.place.settings().gateway.names)
        except PrivityError as error:
            self.tell(f"the server certificate could not be looked at: {error}")
            return
        if renewed:
            self.tell("the server certificate is renewed; the superlink is started again")
            self.supervisor.end("superlink")
            self.supervisor.send("gateway", signal.SIGHUP)
