"""A device's node: takes the federation's messages one after another and answers them.

One warm process: the base model is loaded once and stays. Only the installed `client.app` runs; a
run whose bundle is not the one that this version would make itself is refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

from client.link import Link, RunOverError
from common.bundle import bundle_hash
from common.config import Settings

FIRST_LOOK_S, LESS_OFTEN, SLOWEST_LOOK_S = 0.1, 1.2, 3.0
Report = Callable[[str], None]


@dataclass(slots=True)
class Node:
    """Answers messages with `app`.

    Attributes:
        report: Told, in a line without anything personal, what happened.
    """

    link: Link
    app: ClientApp
    report: Report
    _runs: dict[int, Context | None] = field(default_factory=dict)

    def serve(self, ended: threading.Event) -> None:
        """Until `ended`: look for messages, often right after one, then less and less often.

        Raises:
            LinkLostError: The federation cannot be reached.
            RefusedError: It does not accept this device any more.
        """
        pause = FIRST_LOOK_S
        while not ended.is_set():
            if self.answer_one():
                pause = FIRST_LOOK_S
                continue
            ended.wait(pause)
            pause = min(pause * LESS_OFTEN, SLOWEST_LOOK_S)

    def answer_one(self) -> bool:
        """Answer the next message; whether there was one."""
        try:
            message = self.link.receive()
            if message is None:
                return False
            begin = time.monotonic()
            reply = self._reply(message)
            self.link.send(reply, time.monotonic() - begin)
        except RunOverError:
            self.report("a run ended before its message was answered")
        return True

    def _reply(self, message: Message) -> Message:
        context = self._context(message.metadata.run_id)
        if context is None:
            return _refusal(message, "UnknownBundle")
        return self.app(message, context)

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
