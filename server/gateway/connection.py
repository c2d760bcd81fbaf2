"""One connection from outside: requests one after the other, each against a clock.

HTTP/1.1 by h11, which refuses what two readers could understand in two ways. Bodies need a
Content-Length (411 without one, chunked or not), so that the bytes they may take are set aside
before the first is read, and a request goes on to the SuperLink only once it is here as a whole.
After any refusal the connection is closed: what follows on it is not believed to be a request.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

import h11
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER

from common.enrolment.protocol import Refusal
from server.enrolment.desk import Reply
from server.gateway.admission import Admission
from server.gateway.limits import Limits
from server.gateway.refusals import Refusals, Refused, shown
from server.gateway.routes import Route, RouteKind
from server.gateway.upstream import Upstream, passed_down, passed_up

log = logging.getLogger("privity.gateway")

READ_BYTES = 64 * 1024
MAX_HEADER_BYTES = 16 * 1024
MAX_HEADERS = 100
LINGER_S, LINGER_BYTES = 2.0, 2**20  # so that a refused sender gets to read why
CLOSE_S = 3.0
GONE = 410  # Flower's client takes 403 for a run that has ended, and ends its process at 401
JSON = (b"content-type", b"application/json")
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Services:
    """What the gateway answers by itself.

    Attributes:
        authorities: Whom devices are to trust, for anybody (`common/enrolment/protocol.py`).
        is_known: Whether a Flower node key is that of an enrolled device. Called in the event
            loop; must be quick.
        desk: What is asked (`enrol`, `leave`, `renew`), body and address to a reply; called in a
            thread, may block.
        terms: What the federation asks of devices, for anybody; must be quick.
    """

    authorities: bytes
    is_known: Callable[[bytes], bool]
    desk: Callable[[str, bytes, str], Reply]
    terms: Callable[[], bytes] = bytes


@dataclass(frozen=True, slots=True)
class Common:
    """What all connections of a gateway have in common."""

    limits: Limits
    routes: dict[tuple[bytes, bytes], Route]
    services: Services
    upstream: Upstream
    admission: Admission
    refusals: Refusals
    threads: Executor
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    traffic: Counter[str] = field(default_factory=Counter)  # bytes in and out, inside TLS


class Connection:
    """A connection whose TLS handshake is done."""

    def __init__(
        self,
        shared: Common,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        source: str,
    ) -> None:
        self._shared, self._limits, self._source = shared, shared.limits, source
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        self._what, self._stopping, self._served = "connection", False, 0
        self.busy = False

    async def serve(self) -> None:
        """Answer requests until either side has enough. Never raises but for cancellation."""
        try:
            while await self._exchange() and not self._stopping:
                self.busy = False
        except Refused as refused:
            await self._refuse(refused)
        except OSError:
            self._shared.refusals.counts["connection broken off"] += 1
        except Exception as error:
            log.error("%s on %s: %s", type(error).__name__, self._what, self._source)
        finally:
            await self._close()

    def stop(self) -> bool:
        """Take no further request; whether one is being answered."""
        self._stopping = True
        return self.busy

    async def _exchange(self) -> bool:
        """Answer one request; whether another may follow."""
        request = await self._request()
        if request is None:
            return False
        self.busy = True
        self._what = f"{request.method.decode()[:12]} {shown(request.target)}"
        if request.http_version != b"1.1":
            raise Refused(505, "not HTTP/1.1")
        route = self._shared.routes.get((request.method, request.target))
        if route is None:
            raise Refused(404, "path not open")
        size = _body_size(request, route)
        headers = _to_pass(request)
        device = self._device(headers) if route.kind is RouteKind.FLEET else b""
        with self._shared.admission.request(device, size):
            body = await self._body(size)
            await self._answer(route, headers, body)
        self._served += 1
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def _request(self) -> h11.Request | None:
        """The next request's head; None where the other side has no more, or waits too long."""
        loop = asyncio.get_running_loop()
        if self._served and not self._http.trailing_data[0]:
            try:
                async with asyncio.timeout(self._limits.idle_s):
                    self._http.receive_data(await self._read())
            except TimeoutError:
                return None
        event = await self._event(loop.time() + self._limits.headers_s, "headers too slow")
        if isinstance(event, h11.ConnectionClosed):
            return None
        if not isinstance(event, h11.Request):
            raise Refused(400, "malformed request")
        size = sum(len(name) + len(value) for name, value in event.headers) + len(event.target)
        if size > MAX_HEADER_BYTES or len(event.headers) > MAX_HEADERS:
            raise Refused(431, "headers too large")
        return event

    async def _body(self, size: int) -> bytes:
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            await self._send(go_on, self._limits.body_s)
        body = bytearray()
        deadline = asyncio.get_running_loop().time() + self._limits.body_time_s(size)
        while True:
            event = await self._event(deadline, "body too slow")
            if isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
            else:
                raise Refused(0, "body broken off")

    async def _event(self, deadline: float, late: str) -> object:
        """What h11 reads next, by a deadline on the loop's clock."""
        try:
            async with asyncio.timeout_at(deadline):
                while (event := self._http.next_event()) is h11.NEED_DATA:
                    self._http.receive_data(await self._read())
        except TimeoutError:
            raise Refused(408, late) from None
        except h11.RemoteProtocolError as error:  # its words may quote what came
            status = error.error_status_hint
            reason = "headers too large" if status == 431 else "malformed request"
            raise Refused(status, reason) from None
        return event

    async def _read(self) -> bytes:
        data = await self._reader.read(READ_BYTES)
        self._shared.traffic["in"] += len(data)
        return data

    def _device(self, headers: dict[str, str]) -> bytes:
        """The node key of an enrolled device; its signature is checked by Flower."""
        try:
            key = base64.b64decode(headers[FLEET_HTTP_PUBLIC_KEY_HEADER], validate=True)
            known = self._shared.services.is_known(key)
        except (KeyError, binascii.Error):
            raise Refused(403, "no key of a device") from None
        except sqlite3.Error:
            raise Refused(503, "the list of devices cannot be read") from None
        if not known:
            raise Refused(GONE, "not an enrolled device")
        return key

    async def _answer(self, route: Route, headers: dict[str, str], body: bytes) -> None:
        services = self._shared.services
        if route.kind is RouteKind.FLEET:
            route.require(body)
            await self._pass_on(route, headers, body)
        elif route.kind is RouteKind.CA:
            await self._reply(route, 200, services.authorities, (b"content-type", b"text/plain"))
        elif route.kind is RouteKind.TERMS:
            await self._reply(route, 200, services.terms(), JSON)
        elif route.kind is RouteKind.HEALTH:
            await self._reply(route, 200, b'{"status": "ok"}', JSON)
        else:
            reply = await self._in_thread(services.desk, route.path.rpartition("/")[2], body)
            if reply.reason:
                self._shared.refusals.note(self._source, self._what, reply.reason)
            await self._reply(route, reply.status, reply.body, JSON)

    async def _in_thread(
        self, act: Callable[[str, bytes, str], Reply], what: str, body: bytes
    ) -> Reply:
        loop, threads = asyncio.get_running_loop(), self._shared.threads
        try:
            async with asyncio.timeout(2 * self._limits.upstream_s):
                return await loop.run_in_executor(threads, act, what, body, self._source)
        except TimeoutError:
            raise Refused(503, "enrolment takes too long") from None

    async def _pass_on(self, route: Route, headers: dict[str, str], body: bytes) -> None:
        loop = asyncio.get_running_loop()
        async with self._shared.upstream.post(route.path, headers, body) as response:
            status = response.status_code
            if status >= 400:
                reason = f"the SuperLink answered {status}"
                self._shared.refusals.note(self._source, self._what, reason)
            await self._send(_head(status, _answered(response.headers.multi_items())))
            start, sent = loop.time(), 0
            async for chunk in response.aiter_raw(READ_BYTES):
                sent += len(chunk)
                left_s = start + self._limits.body_time_s(sent) - loop.time()
                await self._send(h11.Data(data=chunk), left_s)
        await self._send(h11.EndOfMessage())
        self._shared.answers[route.path, status] += 1

    async def _reply(
        self, route: Route, status: int, body: bytes, kind: tuple[bytes, bytes]
    ) -> None:
        await self._send(_head(status, [kind, (b"content-length", b"%d" % len(body))]))
        await self._send(h11.Data(data=body))
        await self._send(h11.EndOfMessage())
        self._shared.answers[route.path, status] += 1

    async def _send(self, event: h11.Event, within_s: float | None = None) -> None:
        """Write an event and wait until the other side reads."""
        data = self._http.send(event)
        if not data:
            return
        self._writer.write(data)
        self._shared.traffic["out"] += len(data)
        wait_s = self._limits.body_s if within_s is None else within_s
        try:
            async with asyncio.timeout(max(0.0, wait_s)):
                await self._writer.drain()
        except TimeoutError:
            raise Refused(0, "answer read too slowly") from None

    async def _refuse(self, refused: Refused) -> None:
        self._shared.refusals.note(self._source, self._what, refused.reason)
        if not refused.status or self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = b"" if refused.status == 404 else _words(refused.reason)
        headers = [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        try:
            await self._send(_head(refused.status, [*headers, *([JSON] if body else [])]))
            await self._send(h11.Data(data=body))
            await self._send(h11.EndOfMessage())
            await self._linger()
        except (Refused, OSError, h11.LocalProtocolError):
            return

    async def _linger(self) -> None:
        """Take in what is left of a refused body: closing on unread bytes would cut the answer."""
        left = LINGER_BYTES
        try:
            async with asyncio.timeout(LINGER_S):
                while left > 0:
                    event = self._http.next_event()
                    if event is h11.NEED_DATA:
                        data = await self._read()
                        left -= len(data)
                        self._http.receive_data(data)
                    elif not isinstance(event, h11.Data):
                        return
        except (TimeoutError, h11.RemoteProtocolError):
            return

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                self._writer.close()
                await self._writer.wait_closed()
        except (TimeoutError, OSError):
            pass
        finally:
            self._writer.transport.abort()


def _body_size(request: h11.Request, route: Route) -> int:
    """The length of the body, which must be given and allowed."""
    found = dict(request.headers)
    if b"transfer-encoding" in found:
        raise Refused(411, "chunked body")
    length = found.get(b"content-length")
    if length is None and request.method == b"POST":
        raise Refused(411, "length not given")
    size = int(length or 0)
    if size > route.max_body:
        raise Refused(413, "body too large")
    return size


def _to_pass(request: h11.Request) -> dict[str, str]:
    """The headers that go on to the SuperLink, each once."""
    passed: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        if not passed_up(name):
            continue
        if name in passed or not value.isascii() or not value.isprintable():
            raise Refused(400, "malformed request")
        passed[name] = value
    return passed


def _answered(headers: list[tuple[str, str]]) -> Headers:
    passed = [(name, value) for name, value in headers if passed_down(name.lower())]
    lengths = [(name, value) for name, value in headers if name.lower() == "content-length"]
    return [(name.encode(), value.encode()) for name, value in (*passed, *lengths)]


def _head(status: int, headers: Headers) -> h11.Response:
    return h11.Response(status_code=status, headers=headers)


def _words(reason: str) -> bytes:
    return Refusal(f"{reason[0].upper()}{reason[1:]}.").encode()
