"""The two kinds of adapter weights. Only `Shared` has a wire form; `Personal` has none."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from common.adapter.plan import BOTH, AdapterPlan, Vector, kept_parts


@dataclass(frozen=True, slots=True)
class Shared:
    """The weights that the federation owns: `plan.sent`, flattened, float32, [dimension]."""

    plan: AdapterPlan
    vector: Vector

    def __post_init__(self) -> None:
        assert self.vector.shape == (self.plan.dimension,)

    def digest(self) -> str:
        """SHA-256 of plan and weights, hex: the name of this version in round terms."""
        content = self.plan.digest().encode() + self.vector.astype("<f4").tobytes()
        return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True, repr=False)
class Personal:
    """The weights of one device alone: A and B, flattened, float32. Never part of a message."""

    plan: AdapterPlan
    vector: Vector

    def __repr__(self) -> str:
        return "Personal(redacted)"


def encode_shared(shared: Shared) -> bytes:
    """The wire form of a shared adapter: little-endian float32.

    Raises:
        TypeError: For anything but `Shared`; a personal adapter cannot be put into a message.
    """
    if type(shared) is not Shared:
        raise TypeError(f"only a shared adapter travels, not a {type(shared).__name__}")
    return shared.vector.astype("<f4").tobytes()


def decode_shared(plan: AdapterPlan, content: bytes) -> Shared:
    """Inverse of `encode_shared`.

    Raises:
        DecodeError: When the length is not the plan's, or a weight is not finite.
    """
    from common.errors import DecodeError

    if len(content) != 4 * plan.dimension:
        raise DecodeError(f"an adapter of {len(content)} bytes, wanted {4 * plan.dimension}.")
    vector = np.frombuffer(content, dtype="<f4").astype(np.float32)
    if not np.isfinite(vector).all():
        raise DecodeError("an adapter with weights that are not finite.")
    return Shared(plan, vector)


def whole(shared: Shared, kept: Vector | None = None) -> Vector:
    """A and B of a shared adapter, flattened: what is published, and what is not sent.

    Args:
        kept: The parts that a device trained and kept (FedSA's B); None leaves them at their start.
    """
    plan = shared.plan
    vector = plan.initial(BOTH)
    _put(vector, plan, plan.sent, shared.vector)
    if kept is not None:
        _put(vector, plan, kept_parts(plan.sharing), kept)
    return vector


def _put(vector: Vector, plan: AdapterPlan, parts: tuple[str, ...], values: Vector) -> None:
    """Some parts' values into their places among both parts."""
    places = {(site, part): place for site, part, place in plan.entries(BOTH)}
    for site, part, place in plan.entries(parts):
        vector[places[site, part]] = values[place]
