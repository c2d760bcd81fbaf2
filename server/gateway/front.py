"""The listening socket: counts come first, then TLS, then requests.

A connection that is one too many is closed before a byte of it is read, so that a flood costs no
handshakes. TLS 1.3 only, as every device runs this software; no session tickets, no client
certificates (a device proves itself by its signature in each request).
"""

from __future__ import annotations

import asyncio
import functools
import logging
import resource
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common.errors import InputError
from server.gateway.admission import Admission, source_of
from server.gateway.connection import Common, Connection, Services
from server.gateway.limits import Limits
from server.gateway.refusals import Refusals
from server.gateway.routes import routes
from server.gateway.upstream import Upstream

log = logging.getLogger("privity.gateway")

BACKLOG = 512
SHUTDOWN_S = 2.0  # for the other side's end of TLS
ENROLMENT_THREADS = 2
OTHER_FILES = 300  # besides connections: databases, the pool to the SuperLink, libraries
PAUSE_S = 0.2


class Gateway:
    """The gateway; `start` it in a running event loop and `close` it there.

    Args:
        certificate: PEM file of the server certificate and its key.
        clock: Seconds, never set back.
    """

    def __init__(
        self,
        certificate: Path,
        services: Services,
        upstream: Upstream,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._certificate = certificate
        self._threads = ThreadPoolExecutor(ENROLMENT_THREADS, "enrolment")
        self._shared = Common(
            limits, routes(limits), services, upstream,
            Admission(limits, clock), Refusals(clock), self._threads,
        )  # fmt: skip
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_3
        self._tls.num_tickets = 0
        self.reload_certificate()
        self._open: dict[asyncio.Task[None], Connection | None] = {}
        self._accepting: asyncio.Task[None] | None = None
        self._listener: socket.socket | None = None

    def reload_certificate(self) -> None:
        """Use the certificate that is in its file now, for connections from now on.

        OpenSSL reads the file twice. Where it was replaced in between, it is read again.
        """
        try:
            self._tls.load_cert_chain(self._certificate)
        except ssl.SSLError:
            self._tls.load_cert_chain(self._certificate)

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; the address and port that are listened on.

        Raises:
            InputError: The address cannot be listened on.
        """
        _allow_files(self._shared.limits.connections + OTHER_FILES)
        try:
            self._listener = await _listen(host, port)
        except OSError as error:
            problem = f"Nothing can listen on {host} port {port}: {error.strerror or error}."
            raise InputError(problem, "Change host or port under [gateway].") from None
        self._accepting = asyncio.create_task(self._accept(self._listener))
        address = self._listener.getsockname()
        return address[0], address[1]

    async def close(self) -> None:
        """Take no more connections, let requests end for `shutdown_s`, then close everything."""
        if self._accepting:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        if self._listener:
            self._listener.close()
        for task, connection in list(self._open.items()):
            if connection is None or not connection.stop():
                task.cancel()
        if self._open:
            await asyncio.wait(self._open, timeout=self._shared.limits.shutdown_s)
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._shared.upstream.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def figures(self) -> dict[str, Any]:
        """Open connections, answers by path and status, refusals by reason, bytes in and out."""
        answers = {f"{path} {status}": count for (path, status), count in self._answers()}
        return {
            "connections": self._shared.admission.connections,
            "answers": answers,
            "refusals": dict(self._shared.refusals.counts),
            "bytes": dict(self._shared.traffic),
        }

    def _answers(self) -> list[tuple[tuple[str, int], int]]:
        return sorted(self._shared.answers.items())

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listener)
            except OSError as error:  # no descriptors left, or the other side is gone already
                log.error("a connection could not be accepted: %s", error.strerror)
                await asyncio.sleep(PAUSE_S)
                continue
            source = source_of(address[0])
            if reason := self._shared.admission.enter(source):
                self._shared.refusals.note(source, "connection", reason)
                accepted.close()
            else:
                task = asyncio.create_task(self._connection(accepted, source))
                self._open[task] = None
                task.add_done_callback(functools.partial(self._ended, source))
            await asyncio.sleep(0)  # a flood of connections does not hold up those that are here

    def _ended(self, source: str, task: asyncio.Task[None]) -> None:
        del self._open[task]
        self._shared.admission.leave(source)

    async def _connection(self, accepted: socket.socket, source: str) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, accepted, ssl=self._tls,
                ssl_handshake_timeout=self._shared.limits.handshake_s,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )  # fmt: skip
        except OSError as error:
            accepted.close()
            late = isinstance(error, ConnectionAbortedError)
            reason = "TLS handshake too slow" if late else "TLS handshake failed"
            self._shared.refusals.note(source, "connection", reason)
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        connection = Connection(self._shared, reader, writer, source)
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = connection
        await connection.serve()


async def _listen(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _allow_files(wanted: int) -> None:
    """Raise this process's limit of open files as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if unlimited else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            log.warning("%d open files are allowed; the limits ask for %d", allowed, wanted)
