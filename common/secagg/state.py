"""What a participant keeps between legs, and its stored form.

The received messages are stored as they came and opened again after loading, so there is one
place that checks them. The blob holds private keys: store it encrypted, and replace it before the
message that was just made is sent.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum

from common.errors import DecodeError
from common.secagg._hazmat.keys import KEY_BYTES
from common.secagg.terms import RoundTerms
from common.secagg.wire import Reader, blob, u8, u64

VERSION = 2
KIND = 0x50  # apart from the kinds of messages


class Stage(IntEnum):
    """The last thing a participant did."""

    FRESH = 0
    ADVERTISED = 1
    SHARED = 2
    MASKED = 3
    CONFIRMED = 4
    REVEALED = 5
    DEAD = 6


@dataclass(slots=True, repr=False)
class State:
    """Secrets of one round, own holders (ids of 8 bytes), the binding, the messages received so
    far, and the last one sent.
    """

    stage: Stage
    mask_private: bytes
    share_private: bytes
    self_seed: bytes
    roster: bytes = b""
    holders: bytes = b""
    inbox: bytes = b""
    binding: bytes = b""
    survivors: bytes = b""
    sent: bytes = b""

    @classmethod
    def fresh(cls, random: Callable[[int], bytes]) -> "State":
        """New keys and a new self-mask seed."""
        return cls(Stage.FRESH, random(KEY_BYTES), random(KEY_BYTES), random(KEY_BYTES))

    def wipe(self) -> None:
        """Forget every secret and message."""
        for name in _BLOBS:
            setattr(self, name, b"")


_BLOBS = [field.name for field in fields(State) if field.name != "stage"]
_SECRETS = ("mask_private", "share_private", "self_seed")
_SINCE = {
    "roster": Stage.SHARED,
    "holders": Stage.SHARED,
    "inbox": Stage.MASKED,
    "binding": Stage.MASKED,
    "survivors": Stage.CONFIRMED,
}


def encode_state(terms: RoundTerms, member: int, state: State) -> bytes:
    """Version, kind, terms, member, stage, then every byte string behind its length."""
    head = u8(VERSION) + u8(KIND) + blob(terms.encode()) + u64(member) + u8(state.stage)
    return head + b"".join(blob(getattr(state, name)) for name in _BLOBS)


def decode_state(data: bytes) -> tuple[RoundTerms, int, State]:
    """Read what `encode_state` wrote.

    Raises:
        DecodeError: Not exactly one saved state of a known version.
    """
    reader = Reader(data, "Saved state")
    reader.expect(u8(VERSION), "version")
    reader.expect(u8(KIND), "kind")
    terms = RoundTerms.decode(reader.blob())
    member = reader.u64()
    stage = _stage(reader.u8())
    state = State(stage, *(reader.blob() for _ in _BLOBS))
    reader.end()
    _require_complete(state)
    return terms, member, state


def _stage(value: int) -> Stage:
    if value > max(Stage):
        raise DecodeError(f"Saved state: stage {value} is unknown.")
    return Stage(value)


def _require_complete(state: State) -> None:
    """Each stage has the secrets and messages that led to it, and no others."""
    live = state.stage < Stage.REVEALED
    for name in _SECRETS:
        if len(getattr(state, name)) != KEY_BYTES * live:
            raise DecodeError(f"Saved state: {name} does not fit stage {state.stage.name}.")
    for name, since in _SINCE.items():
        if bool(getattr(state, name)) != (live and state.stage >= since):
            raise DecodeError(f"Saved state: {name} does not fit stage {state.stage.name}.")
