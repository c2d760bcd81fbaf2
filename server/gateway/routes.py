"""What is open. A request's target is compared byte for byte; there is nothing to normalise.

Flower serves its Control, Runtime and Fleet interfaces on one port, and Control has no login, so
that passing one path too many would hand over the federation. `register-node` is not open (the
server registers whoever is enrolled), nor `unregister-node` (a device leaves by `/v1/leave`), nor
`get-fab` (a device never runs what a server sent).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from common.enrolment import MAX_BYTES
from server.gateway.limits import KIBIBYTE, MEBIBYTE, Limits


class Kind(Enum):
    """Who answers."""

    FLEET = "fleet"
    ENROL = "enrol"
    LEAVE = "leave"
    CA = "ca"
    HEALTH = "health"


@dataclass(frozen=True, slots=True)
class Route:
    """An open path: who answers, with how large a body at most (bytes)."""

    path: str
    kind: Kind
    max_body: int


FLEET = "/v1/fleet/"
SMALL_CALLS = (
    "activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "get-run",
    "pull-object", "confirm-message-received",
)  # fmt: skip
LARGE_CALLS = ("push-messages", "push-object")


def routes(limits: Limits) -> dict[tuple[bytes, bytes], Route]:
    """Every open (method, target)."""
    small, large = limits.small_kib * KIBIBYTE, limits.object_mib * MEBIBYTE
    table = [
        (b"GET", Route("/v1/ca", Kind.CA, 0)),
        (b"GET", Route("/v1/health", Kind.HEALTH, 0)),
        (b"POST", Route("/v1/enrol", Kind.ENROL, MAX_BYTES)),
        (b"POST", Route("/v1/leave", Kind.LEAVE, MAX_BYTES)),
        *((b"POST", Route(FLEET + call, Kind.FLEET, small)) for call in SMALL_CALLS),
        *((b"POST", Route(FLEET + call, Kind.FLEET, large)) for call in LARGE_CALLS),
    ]
    return {(method, route.path.encode()): route for method, route in table}
