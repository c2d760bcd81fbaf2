"""What is open. A request's target is compared byte for byte; there is nothing to normalise.

Flower serves its Control, Runtime and Fleet interfaces on one port, and Control has no login, so
that passing one path too many would hand over the federation. `register-node` is not open (the
server registers whoever is enrolled), nor `unregister-node` (a device leaves by `/v1/leave`), nor
`get-fab` (a device never runs what a server sent).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from common.enrolment.offer import PATH as TERMS
from common.enrolment.protocol import MAX_BYTES
from server.gateway.claims import (
    require_confirmed,
    require_nothing,
    require_pulled,
    require_pushed,
    require_reply,
)
from server.gateway.limits import KIBIBYTE, MEBIBYTE, Limits


class RouteKind(Enum):
    """Who answers."""

    FLEET = "fleet"
    DESK = "desk"
    CA = "ca"
    TERMS = "terms"
    HEALTH = "health"


@dataclass(frozen=True, slots=True)
class Route:
    """An open path.

    Attributes:
        kind: Who answers.
        max_body: Largest body, in bytes.
        require: Raises `Refused` for a body that is not passed on.
    """

    path: str
    kind: RouteKind
    max_body: int
    require: Callable[[bytes], None] = require_nothing


FLEET = "/v1/fleet/"
SMALL_CALLS = {
    "activate-node": require_nothing,
    "deactivate-node": require_nothing,
    "send-node-heartbeat": require_nothing,
    "pull-messages": require_nothing,
    "push-messages": require_reply,
    "get-run": require_nothing,
    "pull-object": require_pulled,
    "confirm-message-received": require_confirmed,
}
DESK = ("enrol", "leave", "renew")
LARGE_CALLS = {"push-object": require_pushed}


def routes(limits: Limits) -> dict[tuple[bytes, bytes], Route]:
    """Every open (method, target)."""
    small, large = limits.small_kib * KIBIBYTE, limits.object_mib * MEBIBYTE
    table = [
        (b"GET", Route("/v1/ca", RouteKind.CA, 0)),
        (b"GET", Route(TERMS, RouteKind.TERMS, 0)),
        (b"GET", Route("/v1/health", RouteKind.HEALTH, 0)),
        *((b"POST", Route(f"/v1/{what}", RouteKind.DESK, MAX_BYTES)) for what in DESK),
        *((b"POST", route) for route in _fleet(SMALL_CALLS, small)),
        *((b"POST", route) for route in _fleet(LARGE_CALLS, large)),
    ]
    return {(method, route.path.encode()): route for method, route in table}


def _fleet(calls: Mapping[str, Callable[[bytes], None]], max_body: int) -> list[Route]:
    return [
        Route(FLEET + call, RouteKind.FLEET, max_body, require) for call, require in calls.items()
    ]
