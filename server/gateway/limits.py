"""What the gateway allows, and for how long it waits. Every limit has a reason beside it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

MEBIBYTE = 2**20
KIBIBYTE = 2**10


def limit(default: int | float, text: str, *, low: float, high: float) -> Any:
    """A field with its help text and bounds, both included."""
    rules = {"help": text, "low": low, "high": high, "above": None, "choices": ()}
    return dataclasses.field(default=default, metadata=rules)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the gateway, section [limits] of privity.toml."""

    connections: int = limit(
        2000, "connections in all; one more is closed before TLS", low=1, high=100_000
    )
    connections_per_address: int = limit(
        64, "connections of one IPv4 address or IPv6 /64 network", low=1, high=100_000
    )
    connects_per_minute: int = limit(
        600, "new connections a minute of one address", low=1, high=1_000_000
    )
    requests_per_device: int = limit(8, "requests of one device at a time", low=1, high=1000)
    small_kib: int = limit(64, "KiB of a request that carries no model", low=16, high=16 * KIBIBYTE)
    object_mib: int = limit(
        32, "MiB of one object, which must hold a device's whole update", low=1, high=1024
    )
    memory_mib: int = limit(
        256, "MiB of request bodies held at a time, of all devices", low=1, high=65_536
    )
    handshake_s: float = limit(10.0, "seconds for a TLS handshake", low=0.1, high=600)
    headers_s: float = limit(10.0, "seconds for a request's headers", low=0.1, high=600)
    body_s: float = limit(10.0, "seconds for a body, besides its size by rate", low=0.1, high=600)
    least_kib_s: float = limit(
        16.0, "KiB a second that a body, either way, must keep up", low=0.01, high=1e6
    )
    idle_s: float = limit(
        75.0, "seconds a connection may wait between requests", low=0.1, high=3600
    )
    upstream_s: float = limit(30.0, "seconds the SuperLink has for an answer", low=0.1, high=3600)
    shutdown_s: float = limit(10.0, "seconds that requests have to end at a stop", low=0, high=600)

    def body_time_s(self, size: int) -> float:
        """Longest a body of `size` bytes may take."""
        return self.body_s + size / (self.least_kib_s * KIBIBYTE)
