"""The process that takes part in rounds for a person: connects, answers, reconnects."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from flwr.app import Context

from client import adapters
from client import app as client_app
from client.device import Device
from client.link import LinkLostError, connect
from client.membership import identity, keys, membership
from client.node import Node
from client.policy import KEY, Asked, SoFar, decode, reasons_to_decline
from client.surroundings import surroundings
from client.vault import Vault
from common.adapter import lora
from common.adapter.plan import BOTH
from common.adapter.state import Shared, whole
from common.backbone import backbone_for
from common.config import Settings
from common.errors import DeclinedError, InputError
from common.tasks.chat import Turn, split, turns

NOTES = "status.json"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


@dataclass(slots=True)
class Service:
    """Takes part with the data in an open vault, which this process owns."""

    vault: Vault
    ended: threading.Event
    _notes: dict[str, str] = field(default_factory=dict)
    _examples: tuple[list[Turn], list[Turn]] | None = None

    def run(self) -> None:
        """Until `ended`.

        Raises:
            RefusedError: The federation does not accept this device any more.
            InputError: It is in none.
        """
        known, (_, node_key) = membership(self.vault.store), keys(self.vault.store)
        client_app.serve(self._device)
        address, pause = urlsplit(known.url).netloc, FIRST_PAUSE_S
        while not self.ended.is_set():
            try:
                with connect(address, known.ca_pem, node_key, known.member) as link:
                    self.note(connected="yes")
                    pause = FIRST_PAUSE_S
                    Node(link, client_app.app, lambda words: self.note(last=words)).serve(
                        self.ended
                    )
            except LinkLostError as error:
                self.note(connected=f"no: {error.message}")
                self.ended.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311
                pause = min(2 * pause, LONGEST_PAUSE_S)

    def note(self, **notes: str) -> None:
        """Say something about this process to whoever asks for its status, if there is room."""
        self._notes |= notes | {"at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        file = self.vault.folder / NOTES
        scratch = file.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):
            try:
                scratch.write_text(json.dumps({"pid": os.getpid(), **self._notes}))
                scratch.replace(file)
            finally:
                scratch.unlink(missing_ok=True)

    @contextmanager
    def _device(self, settings: Settings, context: Context) -> Iterator[Device]:  # noqa: ARG002
        """This person's device, for one message."""
        train, heldout = self._split(settings)
        yield Device(
            member=membership(self.vault.store).member,
            train=train,
            heldout=heldout,
            store=self.vault.store,
            identity=identity(self.vault.store),
            consent=self._consent,
            adopt=self._adopt,
        )

    def _split(self, settings: Settings) -> tuple[list[Turn], list[Turn]]:
        if self._examples is None:
            self._examples = split(turns(self.vault.records.all()), settings.examples)
        if not self._examples[0]:
            raise InputError("There is nothing to train on.", "Import messages first.")
        return self._examples

    def _consent(self, asked: Asked) -> None:
        store = self.vault.store
        spent = [store.ledger.spent(guarantee) for guarantee in ("record", "user")]
        so_far = SoFar(*(math.inf if one is None else one.epsilon for one in spent))
        reasons = reasons_to_decline(decode(store.get(KEY)), asked, surroundings(), so_far)
        if reasons:
            self.note(declined=" ".join(reasons))
            raise DeclinedError(" ".join(reasons))

    def _adopt(self, settings: Settings, published: Shared) -> None:
        """Keep what was published, and say whether it helps this person."""
        adapters.keep_shared(self.vault.store, settings, published)
        heldout = self._split(settings)[1]
        if not heldout:
            self.note(adapter="new")
            return
        backbone = backbone_for(settings)
        answers = backbone.prepared(heldout)
        with lora.active(backbone.model):
            base = backbone.score(answers).metrics()["nll"]
        lora.write(backbone.model, lora.SHARED, published.plan, BOTH, whole(published))
        with lora.active(backbone.model, lora.SHARED):
            shared = backbone.score(answers).metrics()["nll"]
        self.note(
            adapter=f"{published.digest()[:12]}; on {len(heldout)} answers it has not seen: "
            f"{shared:.3f} nats a token, {base:.3f} without it"
        )


def notes_of(folder: Path) -> dict[str, str]:
    """What the process last said; empty when it said nothing."""
    try:
        found = json.loads((folder / NOTES).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
