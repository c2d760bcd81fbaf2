"""A gateway with a stub in place of the SuperLink, and people who come to it."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from client.federation.joining import Membership, join, trusting
from common.enrolment.offer import Offer
from common.settings import Settings
from server.deployment import place
from server.enrolment.desk import Desk
from server.enrolment.enrolment import Enrolment
from server.gateway.connection import Services
from server.gateway.front import Gateway
from server.gateway.limits import Limits
from server.gateway.upstream import Upstream

KEY_HEADER = "flwr-public-key"
USUAL = Limits(shutdown_s=1)  # whoever tests that a time runs out shortens that time alone


class Stub:
    """Answers every POST as the SuperLink would, over TLS, and remembers what came."""

    def __init__(self, made: place.Place) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.status, self.body, self.delay_s, self.missing = 200, b"answer", 0.0, 0
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                stub.requests.append((self.path, headers, body))
                time.sleep(stub.delay_s)
                self.send_response(stub.status)
                self.send_header("Content-Type", "application/protobuf")
                self.send_header("Flwr-Note", "kept")
                self.send_header("Set-Cookie", "dropped=1")
                self.send_header("Content-Length", str(len(stub.body) + stub.missing))
                self.end_headers()
                self.wfile.write(stub.body)
                self.close_connection = bool(stub.missing)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.server_pem)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


OFFER = Offer("Ours", Settings.of(users=3))


@dataclass
class World:
    """A gateway with its enrolment and the stub behind it."""

    made: place.Place
    stub: Stub
    enrolment: Enrolment
    limits: Limits
    nodes: dict[bytes, int] = field(default_factory=dict)
    gone: list[int] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.gateway = self.do(self._start())

    async def _start(self) -> Gateway:
        made = self.made
        ca_pem = made.ca_certificate.read_bytes()
        desk = Desk(self.enrolment, made.authority(), "Ours", self.register, self.gone.append)
        services = Services(
            made.authorities().encode(), self.enrolment.is_known, desk.answer, OFFER.encode
        )
        upstream = Upstream(self.stub.url, ca_pem, self.limits.upstream_s)
        gateway = Gateway(made.server_pem, services, upstream, self.limits)
        self.port = (await gateway.start("0.0.0.0", 0))[1]
        return gateway

    def register(self, node_key: bytes) -> int:
        return self.nodes.setdefault(node_key, 100 + len(self.nodes))

    def do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def close(self) -> None:
        self.do(self.gateway.close())
        self.loop.call_soon_threadsafe(self.loop.stop)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def refusals(self) -> dict[str, int]:
        return dict(self.gateway.figures()["refusals"])

    def trust(self) -> ssl.SSLContext:
        return trusting(self.made.ca_certificate.read_bytes())

    def connect(self, source: str = "127.0.0.1") -> ssl.SSLSocket:
        return self.trust().wrap_socket(self.plain(source), server_hostname="127.0.0.1")

    def plain(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 10, (source, 0))

    def talk(self, request: bytes) -> bytes:
        """Send bytes, and what comes back until the gateway closes the connection."""
        with closing(self.connect()) as connection:
            with suppress(OSError):  # it may be refused and closed before all of it is sent
                connection.sendall(request)
            return rest(connection)

    def client(self, source: str = "127.0.0.1") -> httpx.Client:
        transport = httpx.HTTPTransport(verify=self.trust(), local_address=source)
        return httpx.Client(base_url=self.url, transport=transport, trust_env=False, timeout=20)

    def healthy(self, source: str = "127.0.0.1") -> bool:
        with self.client(source) as client:
            return client.get("/v1/health").status_code == 200


def pushed(size: int) -> bytes:
    """The body of a `push-object` of this size."""
    name = "0" * 64
    spare = len(PushObjectRequest(object_id=name, object_content=b"a" * size).SerializeToString())
    content = b"a" * (2 * size - spare)
    return PushObjectRequest(object_id=name, object_content=content).SerializeToString()


def rest(connection: socket.socket) -> bytes:
    found = bytearray()
    with suppress(ConnectionError, ssl.SSLError):
        while data := connection.recv(65536):
            found += data
    return bytes(found)


@dataclass
class Person:
    """A device: two keys."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    node: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP384R1())
    )

    @property
    def node_key(self) -> bytes:
        return public_key_to_bytes(self.node.public_key())

    @property
    def headers(self) -> dict[str, str]:
        return {KEY_HEADER: base64.b64encode(self.node_key).decode()}

    def join(self, world: World, code: str | None = None, **changed: Any) -> Membership:
        given = {"url": world.url, "ca_fingerprint": world.made.fingerprint()} | changed
        code = code or world.enrolment.invite()
        return join(given["url"], code, given["ca_fingerprint"], self.key, self.node, 10)


Opener = Callable[..., World]


def until(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)
