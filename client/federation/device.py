"""A device: whose data, which keys, whose randomness, and where it keeps its memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from client.federation.enrolled import KnownLog
from client.federation.policy import Asked
from client.vault.store import Store
from common.adapter.weights import Shared
from common.privacy.randomness import Random
from common.settings import Settings
from common.tasks.task import Example

if TYPE_CHECKING:
    from client.federation.steps import Steps


class Randomness(Protocol):
    """Where a device's secrets and noise come from."""

    def stream(self, purpose: str) -> Random:
        """A source of bytes for one purpose, such as one stage of one round."""


class SystemRandomness:
    """The operating system's generator: what every real device uses."""

    def stream(self, purpose: str) -> Random:  # noqa: ARG002
        """`os.urandom`, whatever the purpose."""
        return os.urandom


@dataclass(frozen=True, slots=True)
class Identity:
    """The device's enrolled key, its certificate, and the authority that all members trust."""

    key: Ed25519PrivateKey = field(repr=False)
    certificate: bytes = field(repr=False)
    authority: Ed25519PublicKey = field(repr=False)


def agree(asked: Asked) -> None:
    """Consent to every round that the protocol and the budget allow: what is simulated does."""


def pass_by(settings: Settings, published: Shared) -> None:
    """Do nothing with a published adapter: what is simulated is evaluated by its simulator."""


def fail(error: BaseException) -> None:
    """Raise it: what is simulated hides nothing from its researcher."""
    raise error


def sound() -> Steps:
    """The product's own steps; what they need is loaded with the first device."""
    from client.federation import steps

    return steps.SOUND


@dataclass(frozen=True, slots=True)
class Device:
    """One user's device. The repr shows the member number and nothing personal.

    Attributes:
        train: Everything there is to learn from; each release takes its own window of it.
        heldout: Everything that is held out, likewise.
        consent: Raises `DeclinedError` where the person's own policy says no to a round.
        adopt: Takes an adapter that was published, for the person's own use.
        failed: Told what was raised while learning from the person's answers. Where it returns, the
            round goes on without them, so that whether it fails shows in nothing that is sent.
        enrolled: Who is enrolled; None for a simulated device, whose run keeps no log.
        steps: What its part in a round is made of.
    """

    member: int
    train: Sequence[Example] = field(repr=False)
    heldout: Sequence[Example] = field(repr=False)
    store: Store = field(repr=False)
    identity: Identity = field(repr=False)
    randomness: Randomness = field(default_factory=SystemRandomness, repr=False)
    consent: Callable[[Asked], None] = field(default=agree, repr=False)
    adopt: Callable[[Settings, Shared], None] = field(default=pass_by, repr=False)
    failed: Callable[[BaseException], None] = field(default=fail, repr=False)
    enrolled: KnownLog | None = field(default=None, repr=False)
    steps: Steps = field(default_factory=sound, repr=False)
