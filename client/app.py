"""The Flower `ClientApp`: unpack a message, call the leg it names, pack the answer.

Which device this is comes from the process itself: a real device's says so when it starts, a
simulated node opens its device through the installed package's `privity.devices` entry point.
Nothing a server sends can name code to run. No exception leaves a device: whether something fails,
and where, can depend on what a person wrote. A refused leg is answered with one word of a few; who
is offered an adapter answers the same whatever becomes of it.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.app.typing import ConfigRecordValues
from flwr.clientapp import ClientApp

from client.federation import participation
from client.federation.device import Device
from client.federation.participation import FAILED
from common.errors import (
    BudgetExceededError,
    DeclinedError,
    InputError,
    PrivityError,
    ProtocolError,
)
from common.rounds.run_folder import run_folder
from common.settings import Settings, from_mapping
from common.system.signals import ENDS

app = ClientApp()
log = logging.getLogger("privity.client")

# The reasons that a server may learn: they depend on its own messages, on the policy and on the
# ledger, never on records. Everything else is one word.
TOLD = (DeclinedError, BudgetExceededError, ProtocolError)

Leg = Callable[[Device, Settings, dict[str, Any]], bytes]
Opener = Callable[[Settings, Context], AbstractContextManager[Device]]
Told = Callable[[str, str, str], None]  # which leg, what the server is told, what the person is


@app.query("advertise")
def advertise(message: Message, context: Context) -> Message:
    """Leg 1: terms in, signed keys out."""
    return _reply(message, context, {"advertise": _advertise})


@app.query("share")
def share(message: Message, context: Context) -> Message:
    """Leg 2: roster in, encrypted shares out."""
    return _reply(message, context, {"share": _share})


@app.train("update")
def update(message: Message, context: Context) -> Message:
    """Leg 3: shares and adapter in, masked update out; with it, leg 1 of the next round."""
    return _reply(message, context, {"update": _update, "advertise": _advertise})


@app.query("confirm")
def confirm(message: Message, context: Context) -> Message:
    """Leg 4: survivors in, signature out; with it, leg 2 of the next round."""
    return _reply(message, context, {"confirm": _confirm, "share": _share})


@app.query("reveal")
def reveal(message: Message, context: Context) -> Message:
    """Leg 5: signatures in, mask shares out; with it, the inbox of the next round."""
    return _reply(message, context, {"reveal": _reveal, "open": _open})


@app.query("open")
def open_inbox(message: Message, context: Context) -> Message:
    """Between legs 2 and 3: shares in, whose of them do not open out."""
    return _reply(message, context, {"open": _open})


@app.query("adopt")
def adopt(message: Message, context: Context) -> Message:
    """The newest adapter in, nothing out: the same answer if it is used, declined or no good."""
    return _reply(message, context, {"adopt": _adopt})


def _advertise(device: Device, settings: Settings, asked: dict[str, Any]) -> bytes:
    return participation.advertise(device, settings, asked["body"], asked.get("log", b""))


def _share(device: Device, _: Settings, asked: dict[str, Any]) -> bytes:
    return participation.share(device, asked["round"], asked["body"])


def _open(device: Device, _: Settings, asked: dict[str, Any]) -> bytes:
    return participation.open_inbox(device, asked["round"], asked["body"])


def _update(device: Device, settings: Settings, asked: dict[str, Any]) -> bytes:
    body, adapter = asked["body"], asked["adapter"]
    return participation.update(device, settings, asked["round"], body, adapter)


def _confirm(device: Device, _: Settings, asked: dict[str, Any]) -> bytes:
    return participation.confirm(device, asked["round"], asked["body"])


def _reveal(device: Device, _: Settings, asked: dict[str, Any]) -> bytes:
    return participation.reveal(device, asked["round"], asked["body"])


def _adopt(device: Device, settings: Settings, asked: dict[str, Any]) -> bytes:
    return participation.adopt(device, settings, asked["body"])


def _reply(message: Message, context: Context, legs: dict[str, Leg]) -> Message:
    """Answer each leg that the message has a record for, in a record of the same name."""
    asked = message.content.config_records
    answers = {
        name: ConfigRecord(_answer(name, leg, context, dict(asked[name])))
        for name, leg in legs.items()
        if name in asked
    }
    return Message(RecordDict(dict(answers)), reply_to=message)


def _answer(
    name: str, leg: Leg, context: Context, asked: dict[str, Any]
) -> dict[str, ConfigRecordValues]:
    try:
        settings = _settings(tuple(sorted(context.run_config.items())))
        with _opened(settings, context) as device:
            return {"body": leg(device, settings, asked)}
    except ENDS:
        raise
    except BaseException as error:  # Flower would send the traceback, and with it who knows what
        sent = _told(error)
        with suppress(Exception):  # a vault that cannot be written to
            _refused(name, sent, in_words(error))
    return {"body": b""} if name == "adopt" else {"refused": sent}


def _told(error: BaseException) -> str:
    """What the server learns of a refusal: one of a few words."""
    return next((kind.__name__ for kind in TOLD if isinstance(error, kind)), FAILED)


def in_words(error: BaseException) -> str:
    """What the person is told: of an unforeseen error its place, since its text could quote."""
    if isinstance(error, PrivityError):
        return error.message
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"


@lru_cache(maxsize=4)
def _settings(items: tuple[tuple[str, Any], ...]) -> Settings:
    return from_mapping(dict(items))


@contextmanager
def _simulated(settings: Settings, context: Context) -> Iterator[Device]:
    """Open this node's device for one message; the next may reach another process."""
    partition = context.node_config.get("partition-id")
    if partition is None:
        raise InputError("This node has no device.", "Start it with `privity-client`.")
    (opener,) = entry_points(group="privity.devices", name="simulation")
    folder = run_folder(settings.simulation, context.run_id)
    device: Device = opener.load()(settings, folder, int(partition), context.node_id)
    try:
        yield device
    finally:
        device.store.close()


def unheard(leg: str, sent: str, words: str) -> None:
    """Say what went wrong on a simulated device; the rest the server has in its own log."""
    if sent == FAILED:
        log.warning("a device failed in leg %r: %s", leg, words)


_opened: Opener = _simulated
_refused: Told = unheard


def serve(opener: Opener, refused: Told) -> None:
    """Make this process answer messages for the device that `opener` gives for each of them.

    Args:
        refused: Told of each leg that is refused.
    """
    global _opened, _refused
    _opened, _refused = opener, refused
