"""The way to the SuperLink on loopback: pools of connections, a deadline, few headers.

A request is made anew: its path is one of ours, its body is whole and its length is what was
counted, so that nothing of how the outside framed it reaches the SuperLink. Pools are small, since
httpcore compares all connections of one with each other at every request.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import httpx

from server.gateway.refusals import Refused

POOLS, CONNECTIONS = 10, 10  # of each pool
KEPT_S = 2.0  # less than the five seconds after which the SuperLink closes an idle connection
PASSED_UP = ("content-type", "accept")
PASSED_DOWN = ("content-type", "content-encoding")
FLOWERS = "flwr-"


class Upstream:
    """The SuperLink at `url`.

    Args:
        ca_pem: The authority its certificate must be signed by; None for plain HTTP in tests.
        deadline_s: Seconds for an answer to begin, and for each further part of it.
        transport: Another way to it, for tests.
    """

    def __init__(
        self,
        url: str,
        ca_pem: bytes | None,
        deadline_s: float,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        verify: ssl.SSLContext | bool = False
        if ca_pem is not None:
            verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            verify.minimum_version = ssl.TLSVersion.TLSv1_3
            verify.load_verify_locations(cadata=ca_pem.decode("ascii"))
        limits = httpx.Limits(
            max_connections=CONNECTIONS,
            max_keepalive_connections=CONNECTIONS,
            keepalive_expiry=KEPT_S,
        )
        self._pools = [
            httpx.AsyncClient(
                base_url=url, verify=verify, timeout=deadline_s, limits=limits, trust_env=False,
                follow_redirects=False, transport=transport,
            )
            for _ in range(POOLS)
        ]  # fmt: skip
        for pool in self._pools:
            pool.headers = httpx.Headers({"accept-encoding": "identity", "user-agent": "privity"})
        self._busy = [0] * POOLS

    async def close(self) -> None:
        """Close all connections."""
        for pool in self._pools:
            await pool.aclose()

    @contextmanager
    def _pool(self) -> Iterator[httpx.AsyncClient]:
        """The pool with the fewest requests; the first of them, whose connections are warm."""
        at = min(range(POOLS), key=self._busy.__getitem__)
        self._busy[at] += 1
        try:
            yield self._pools[at]
        finally:
            self._busy[at] -= 1

    @asynccontextmanager
    async def post(
        self, path: str, headers: Mapping[str, str], body: bytes
    ) -> AsyncIterator[httpx.Response]:
        """Send a request; the answer's body is read by `aiter_raw`.

        Raises:
            Refused: 504 when the SuperLink does not answer in time, 502 when it is not there or
                breaks off.
        """
        try:
            with self._pool() as pool:
                response = await _sent(pool, path, headers, body)
                try:
                    yield response
                finally:
                    await response.aclose()
        except httpx.TimeoutException:
            raise Refused(504, "the SuperLink did not answer in time") from None
        except httpx.HTTPError as error:
            raise Refused(502, f"the SuperLink is not there ({type(error).__name__})") from None


async def _sent(
    pool: httpx.AsyncClient, path: str, headers: Mapping[str, str], body: bytes
) -> httpx.Response:
    """The answer's beginning. Once more if the SuperLink was just closing an idle connection."""

    def request() -> httpx.Request:
        return pool.build_request("POST", path, headers=dict(headers), content=body)

    try:
        return await pool.send(request(), stream=True)
    except httpx.RemoteProtocolError:
        return await pool.send(request(), stream=True)


def passed_up(name: str) -> bool:
    """Whether a request's header is passed on."""
    return name in PASSED_UP or name.startswith(FLOWERS)


def passed_down(name: str) -> bool:
    """Whether an answer's header is passed on."""
    return name in PASSED_DOWN or name.startswith(FLOWERS)
