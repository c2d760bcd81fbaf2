"""A device's node: takes the federation's messages one after another and answers them.

One warm process: the base model is loaded once and stays. Only the installed `client.app` runs; a
run whose bundle is not the one that this version would make itself is refused.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

from client.federation.link import Link, RunOverError
from client.federation.participation import FAILED
from common.rounds.bundle import bundle_hash
from common.settings import Settings
from common.system.signals import ENDS

FIRST_LOOK_S, SLOW_LOOK_S, SLOWEST_LOOK_S = 0.1, 3.0, 15.0
QUIET_SHARE, LONG_QUIET_SHARE = 1 / 6, 1 / 10  # of the time since the last message
LEISURE = 10  # times as long as a look took
Report = Callable[[str], None]


def pause_s(quiet_s: float, look_s: float) -> float:
    """Seconds until the next look for messages, before jitter.

    A sixth of the quiet, so that an answer is not kept waiting for long; in a round never more
    than three seconds or a tenth of the quiet, and a quarter of a minute in the end. A federation
    that answers slowly, because many ask it or it has much to do, is asked less often.

    Args:
        quiet_s: Seconds since the last message.
        look_s: Seconds that the last look took.
    """
    longest = max(SLOW_LOOK_S, LONG_QUIET_SHARE * quiet_s)
    by_quiet = max(FIRST_LOOK_S, min(QUIET_SHARE * quiet_s, longest))
    return min(max(by_quiet, LEISURE * look_s), SLOWEST_LOOK_S)


@dataclass(slots=True)
class Node:
    """Answers messages with `app`.

    Attributes:
        report: Told, in a line without anything personal, what happened.
        idle: Called whenever there was no message.
    """

    link: Link
    app: ClientApp
    report: Report
    idle: Callable[[], None] = lambda: None
    _runs: dict[int, Context | None] = field(default_factory=dict)

    def serve(self, ended: threading.Event) -> None:
        """Look for messages until `ended`, paced by `pause_s`: not all devices at once.

        Raises:
            LinkLostError: The federation cannot be reached.
            RefusedError: It does not accept this device any more.
        """
        heard = time.monotonic()
        while not ended.is_set():
            begin = time.monotonic()
            answered, now = self.answer_one(), time.monotonic()
            if answered:
                heard = now
            else:
                self.idle()
                jitter = random.uniform(0.8, 1.2)  # noqa: S311
                ended.wait(jitter * pause_s(now - heard, now - begin))

    def answer_one(self) -> bool:
        """Answer the next message; whether there was one."""
        try:
            message = self.link.receive()
            if message is None:
                return False
            self.link.send(self._reply(message))
        except RunOverError:
            self.report("an answer came too late: what it was for has ended")
        return True

    def _reply(self, message: Message) -> Message:
        context = self._context(message.metadata.run_id)
        if context is None:
            return _refusal(message, "UnknownBundle")
        try:
            return self.app(message, context)
        except ENDS:
            raise
        except BaseException:  # a message that the app has no function for
            return _refusal(message, FAILED)

    def _context(self, number: int) -> Context | None:
        """A run's settings, or None for a run that is none of this software's."""
        if number not in self._runs:
            run = self.link.run(number)
            accepted = run.fab_hash == bundle_hash()
            if not accepted:
                self.report(f"refused run {number}: its bundle is not this version's")
            self._runs = {number: self._of(run) if accepted else None}
        return self._runs[number]

    def _of(self, run: Run) -> Context:
        """All settings come with the run; what it leaves out has this version's default."""
        config = Settings().to_dict() | dict(run.override_config)
        return Context(run.run_id, self.link.node, {}, RecordDict(), config)


def _refusal(message: Message, reason: str) -> Message:
    legs = message.content.config_records
    records = {leg: ConfigRecord({"refused": reason}) for leg in legs}
    return Message(RecordDict(dict(records)), reply_to=message)
