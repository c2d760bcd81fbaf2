"""Who may come in, and how much may be held: counts of connections, requests and bytes.

Pure bookkeeping, no I/O. An address is an IPv4 address or an IPv6 /64 network, since a household
has at least that many IPv6 addresses.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from server.gateway.limits import MEBIBYTE, Limits
from server.gateway.refusals import Refused

MINUTE_S = 60.0
MAX_SOURCES = 100_000


def source_of(address: str) -> str:
    """What connections are counted under."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


class Admission:
    """Counts against the limits.

    Args:
        clock: Seconds, never set back.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits, self._clock = limits, clock
        self._connections: Counter[str] = Counter()
        self._total = 0
        self._requests: Counter[bytes] = Counter()
        self._free_bytes = limits.memory_mib * MEBIBYTE
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return self._total

    def enter(self, source: str) -> str:
        """Let a connection in, to be counted out with `leave`; or why not, in words."""
        if self._connections[source] >= self._limits.connections_per_address:
            return "too many connections of this address"
        if self._total >= self._limits.connections:
            return "too many connections"
        if not self._may_connect(source):
            return "too many new connections of this address"
        self._connections[source] += 1
        self._total += 1
        return ""

    def leave(self, source: str) -> None:
        """A connection that was let in has ended."""
        self._total -= 1
        self._connections[source] -= 1
        if not self._connections[source]:
            del self._connections[source]

    @contextmanager
    def request(self, device: bytes, size: int) -> Iterator[None]:
        """Hold `size` bytes for a request of a device; `device` is empty for strangers.

        Raises:
            Refused: 503, which Flower's client tries again, for too many requests of this device
                or where the memory is spoken for.
        """
        if device and self._requests[device] >= self._limits.requests_per_device:
            raise Refused(503, "too many requests of this device at a time")
        if size > self._free_bytes:
            raise Refused(503, "memory for bodies is spoken for")
        self._free_bytes -= size
        self._requests[device] += 1
        try:
            yield
        finally:
            self._free_bytes += size
            self._requests[device] -= 1
            if not self._requests[device]:
                del self._requests[device]

    def _may_connect(self, source: str) -> bool:
        """A token bucket that fills in a minute."""
        full, now = float(self._limits.connects_per_minute), self._clock()
        tokens, at = self._tokens.pop(source, (full, now))
        tokens = min(full, tokens + (now - at) * full / MINUTE_S)
        self._tokens[source] = (max(0.0, tokens - 1), now)
        if len(self._tokens) > MAX_SOURCES:
            self._tokens.popitem(last=False)
        return tokens >= 1
