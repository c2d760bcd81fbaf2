"""The process that takes part in rounds for a person: connects, answers, reconnects."""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from flwr.app import Context

from client import app as client_app
from client.federation.adoption import adopt
from client.federation.device import Device
from client.federation.enrolled import KnownLog
from client.federation.examples import sets_key
from client.federation.joining import renew
from client.federation.link import LinkLostError, connect
from client.federation.membership import identity, keys, membership
from client.federation.node import Node
from client.federation.policy import KEY, Asked, about_model, decode, reasons_to_decline
from client.federation.prospects import note_asked, note_settings, so_far
from client.federation.surroundings import surroundings
from client.vault import watermark
from client.vault.vault import Vault
from common.adapter.weights import Shared
from common.enrolment.log import DAY_S, RENEWED_WITHIN_S
from common.errors import DeclinedError, PrivityError
from common.settings import Settings, TaskSettings
from common.system import files
from common.system.signals import ENDS
from common.tasks import task_of
from common.tasks.sets import chosen, divide
from common.tasks.task import Example

NOTES = "status.json"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0

Sets = tuple[Sequence[Example], Sequence[Example]]  # to train on, and held out


@dataclass(slots=True)
class Service:
    """Takes part with the data in an open vault, which this process owns."""

    vault: Vault
    ended: threading.Event
    _notes: dict[str, str] = field(default_factory=dict)
    _look: float = 0.0
    _examples: dict[tuple[object, ...], Sets] = field(default_factory=dict)

    def run(self) -> None:
        """Take part in rounds until `ended`.

        Raises:
            RefusedError: The federation does not accept this device any more.
            InputError: It is in none.
        """
        known, (_, node_key) = membership(self.vault.store), keys(self.vault.store)
        client_app.serve(self._device, self._refused)
        address, pause = urlsplit(known.url).netloc, FIRST_PAUSE_S
        while not self.ended.is_set():
            try:
                with connect(address, known.ca_pem, node_key, known.member) as link:
                    self.note(connected="yes")
                    pause = FIRST_PAUSE_S
                    node = Node(link, client_app.app, lambda words: self.note(last=words))
                    node.idle = self._renew_in_time
                    node.serve(self.ended)
            except LinkLostError as error:
                self.note(connected=f"no: {error.message}")
                self.ended.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311
                pause = min(2 * pause, LONGEST_PAUSE_S)

    def _renew_in_time(self) -> None:
        """Renew this device's enrolment if it is time to; tried once a day.

        Before its first round a device does not know until when it is enrolled, and asks: the
        desk renews nothing too early.
        """
        if time.monotonic() < self._look:
            return
        self._look = time.monotonic() + DAY_S
        store, known = self.vault.store, membership(self.vault.store)
        log = KnownLog(store, identity(store).authority).log()
        own = log.members.get(known.member)
        if own is None or (not own.gone and own.until < time.time() + RENEWED_WITHIN_S):
            try:
                renew(known, keys(store)[0], journal=store.journal_other)
            except PrivityError as error:
                self.note(enrolment=str(error))

    def note(self, **notes: str) -> None:
        """Say something about this process to whoever asks for its status, if there is room."""
        self._notes |= notes | {"at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        file = self.vault.folder / NOTES
        content = json.dumps({"pid": os.getpid(), **self._notes})
        with contextlib.suppress(OSError):
            files.write(file, content, mode=files.PRIVATE, durable=False)

    @contextmanager
    def _device(self, settings: Settings, context: Context) -> Iterator[Device]:  # noqa: ARG002
        """This person's device, for one message; a model they do not allow is not looked for."""
        note_settings(self.vault.store, settings)
        _decline_for(about_model(decode(self.vault.store.get(KEY)), settings.model.name))
        train, heldout = self._divided(settings.task)
        try:
            yield self._of(train, heldout)
        finally:
            watermark.keep(self.vault)  # before an answer leaves

    def _of(self, train: Sequence[Example], heldout: Sequence[Example]) -> Device:
        known = identity(self.vault.store)
        return Device(
            member=membership(self.vault.store).member,
            train=train,
            heldout=heldout,
            store=self.vault.store,
            identity=known,
            enrolled=KnownLog(self.vault.store, known.authority),
            consent=self._consent,
            adopt=self._adopt,
            failed=self._failed,
        )

    def _divided(self, task: TaskSettings) -> Sets:
        """The examples to train on and those held out, of the records that there are now.

        Either may be empty: then what is sent is noise, as it would be with few. A refusal would
        tell the federation something about the archive.
        """
        known = (task.name, task.labels, *self.vault.records.state())
        if known not in self._examples:
            try:
                examples = task_of(task).examples(self.vault.records.all())
                found = divide(examples, sets_key(self.vault.store))
            except ENDS:
                raise
            except BaseException as error:  # they cannot be read, which is nobody else's to know
                self._failed(error)
                return [], []
            self._examples = {known: found}
        return self._examples[known]

    def _failed(self, error: BaseException) -> None:
        """The person learns that some or all of their answers have no part in the rounds."""
        when = time.strftime("%Y-%m-%d %H:%M")
        self.note(failed=f"{when}: left examples out of a round: {client_app.in_words(error)}")

    def _consent(self, asked: Asked) -> None:
        store = self.vault.store
        _decline_for(watermark.reason(self.vault))
        policy = decode(store.get(KEY))
        spent, now = so_far(store.ledger), surroundings(busy=policy.only_idle)
        note_asked(store, asked, spent)
        _decline_for(reasons_to_decline(policy, asked, now, spent))

    def _adopt(self, settings: Settings, published: Shared) -> None:
        """Try what was published, and say whether it helps this person."""
        store = self.vault.store
        examples = task_of(settings.task).examples(self.vault.records.all())
        heldout = chosen(examples, sets_key(store), settings.rounds.examples)[1]
        self.note(adapter=adopt(store, settings, published, heldout))
        store.journal_other("adopt", 0)

    def _refused(self, leg: str, sent: str, words: str) -> None:
        """A leg was refused: the federation gets the kind, the person gets the reason."""
        what, size = ("adopt", 0) if leg == "adopt" else ("refusal", len(sent.encode()))
        self.vault.store.journal_other(what, size)
        kind = "declined" if sent == DeclinedError.__name__ else "refused"
        self.note(**{kind: f"{leg}, {time.strftime('%Y-%m-%d %H:%M')}: {words}"})


def _decline_for(reasons: Sequence[str]) -> None:
    if reasons:
        raise DeclinedError(" ".join(reasons))


def notes_of(folder: Path) -> dict[str, str]:
    """What the process last said; empty when it said nothing."""
    try:
        found = json.loads((folder / NOTES).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
