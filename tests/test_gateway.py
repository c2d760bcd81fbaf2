"""The gateway under attack: real TLS on loopback, a stub in place of the SuperLink."""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.proto.fleet_pb2 import ActivateNodeRequest, ActivateNodeResponse, PushMessagesRequest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from client import joining
from client.joining import Membership, join, leave, trusting
from common.enrolment import EnrolRequest, new_code, read_code, spell_code
from common.errors import InputError, PrivityError
from server import certificates, place
from server.enrolment import Enrolment
from server.enrolment_desk import Desk
from server.gateway import connection as connection_module
from server.gateway.admission import Admission, source_of
from server.gateway.connection import Services
from server.gateway.front import Gateway
from server.gateway.limits import Limits
from server.gateway.refusals import Refusals, shown
from server.gateway.upstream import Upstream

KEY_HEADER = "flwr-public-key"
FAST = Limits(handshake_s=1, headers_s=1, body_s=1, idle_s=1.5, upstream_s=1, shutdown_s=1)


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
        context.load_cert_chain(made.server_certificate, made.server_key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


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
        services = Services(ca_pem, self.enrolment.is_known, desk.enrol, desk.leave)
        upstream = Upstream(self.stub.url, ca_pem, self.limits.upstream_s)
        gateway = Gateway(made.server_certificate, made.server_key, services, upstream, self.limits)
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
            connection.sendall(request)
            return _rest(connection)

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


def _rest(connection: socket.socket) -> bytes:
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


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "LINGER_S", 0.5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> place.Place:
    return place.create(tmp_path_factory.mktemp("place") / "ours", name="Ours")


@pytest.fixture
def open_world(made: place.Place, tmp_path: Path) -> Iterator[Opener]:
    opened: list[World] = []

    def start(limits: Limits = FAST) -> World:
        enrolment = Enrolment(tmp_path / f"enrolment{len(opened)}.db")
        opened.append(World(made, Stub(made), enrolment, limits))
        return opened[-1]

    yield start
    for world in opened:
        world.close()
        world.stub.close()


@pytest.fixture
def world(open_world: Opener) -> World:
    return open_world()


# What is open


def test_a_device_joins_and_speaks_to_flower(world: World) -> None:
    person = Person()
    membership = person.join(world)
    assert (membership.member, membership.federation) == (100, "Ours")
    world.stub.body = ActivateNodeResponse(node_id=100).SerializeToString()
    with FleetHttpClient.from_server_address(
        f"127.0.0.1:{world.port}",
        False,
        membership.ca_pem,
        [NodeAuthHttpInterceptor(person.node, person.node.public_key())],
    ) as client:
        request = ActivateNodeRequest(public_key=person.node_key, heartbeat_interval=30)
        assert client.ActivateNode(request).node_id == 100
    ((path, headers, body),) = world.stub.requests
    assert path == "/v1/fleet/activate-node"
    assert body == request.SerializeToString()
    assert {"flwr-public-key", "flwr-signature", "content-type"} <= headers.keys()


def test_only_known_headers_pass_in_either_direction(world: World) -> None:
    person = Person()
    person.join(world)
    sent = person.headers | {"cookie": "a=1", "x-forwarded-for": "1.2.3.4", "flwr-other": "yes"}
    with world.client() as client:
        answer = client.post("/v1/fleet/pull-messages", content=b"x", headers=sent)
    assert (answer.status_code, answer.content) == (200, b"answer")
    assert answer.headers["flwr-note"] == "kept" and "set-cookie" not in answer.headers
    headers = world.stub.requests[0][1]
    assert headers["flwr-other"] == "yes"
    assert headers["user-agent"] == "privity"
    assert not {"cookie", "x-forwarded-for"} & headers.keys()


def test_large_bodies_both_ways(world: World) -> None:
    person = Person()
    person.join(world)
    sent, world.stub.body = pushed(20_000_000), b"b" * 20_000_000
    with world.client() as client:
        answer = client.post("/v1/fleet/push-object", content=sent, headers=person.headers)
        assert answer.content == world.stub.body
        assert client.get("/v1/health").json() == {"status": "ok"}  # on the same connection
    assert world.stub.requests[0][2] == sent


CLOSED = [
    "/", "/v1", "/v1/fleet/", "/v1/fleet/register-node", "/v1/fleet/unregister-node",
    "/v1/fleet/get-fab", "/v1/control/register-node", "/v1/control/start-run",
    "/v1/control/list-nodes", "/v1/runtime/acquire-task", "/docs", "/openapi.json",
    "//v1/fleet/activate-node", "/v1//fleet/activate-node", "/v1/fleet/activate-node/",
    "/v1/fleet/../control/list-nodes", "/v1/fleet/%2e%2e/control/list-nodes",
    "/v1/fleet/..%2fcontrol%2flist-nodes", "/v1/fleet/activate-node/../get-fab",
    "/V1/FLEET/ACTIVATE-NODE", "/v1/fleet/Activate-Node", "/v1/fleet/activate%2dnode",
    "/v1/fleet/activate-node?a=1", "/v1/fleet/activate-node;a", "/v1/fleet/activate-node#a",
    "/v1/fleet/activate-node%00", "/v1/fleet\\activate-node", "v1/fleet/activate-node",
    "http://127.0.0.1/v1/fleet/activate-node", "https://127.0.0.1:9092/v1/control/list-nodes",
    "127.0.0.1:9092", "*", "/./v1/fleet/activate-node", "/v1/fleet/./activate-node",
]  # fmt: skip


def test_everything_else_is_closed(world: World) -> None:
    person = Person()
    person.join(world)
    lines = "".join(f"{name}: {value}\r\n" for name, value in person.headers.items())
    for method in ("POST", "CONNECT", "GET"):
        for target in CLOSED:
            rest = f"HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: 0\r\n\r\n"
            answer = world.talk(f"{method} {target} {rest}".encode())
            assert answer.startswith(b"HTTP/1.1 404"), (method, target, answer)
            assert answer.endswith(b"\r\n\r\n")  # and nothing in it
    for method, target in (("GET", "/v1/fleet/activate-node"), ("post", "/v1/enrol"),
                           ("PUT", "/v1/enrol"), ("HEAD", "/v1/ca"), ("OPTIONS", "*"),
                           ("TRACE", "/v1/ca"), ("POST", "/v1/ca")):  # fmt: skip
        answer = world.talk(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 404"), (method, target, answer)
    assert world.stub.requests == []


def test_upgrades_are_not_made(world: World) -> None:
    person = Person()
    person.join(world)
    with world.client() as client:
        extra = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
        answer = client.post("/v1/fleet/get-run", content=b"", headers=person.headers | extra)
    assert answer.status_code == 200
    assert "upgrade" not in world.stub.requests[0][1]


# Who is let through


def test_strangers_reach_nothing(world: World) -> None:
    stranger = Person()
    tries = [
        ({}, 403),
        ({KEY_HEADER: "###"}, 403),
        ({KEY_HEADER: ""}, 410),
        (stranger.headers, 410),
    ]
    with world.client() as client:
        for headers, status in tries:
            for call in ("activate-node", "push-object"):
                answer = client.post(f"/v1/fleet/{call}", content=b"x", headers=headers)
                assert answer.status_code == status
    assert world.stub.requests == []


def test_two_keys_in_one_request(world: World) -> None:
    """Gateway and Flower must not read different ones."""
    person, stranger = Person(), Person()
    person.join(world)
    both = [(KEY_HEADER, one.headers[KEY_HEADER]) for one in (person, stranger)]
    with world.client() as client:
        for headers in (both, both[::-1]):
            answer = client.post("/v1/fleet/pull-messages", content=b"", headers=headers)
            assert answer.status_code == 400
    assert world.stub.requests == []


def test_a_revoked_device_is_out_at_once(world: World, tmp_path: Path) -> None:
    person = Person()
    member = person.join(world).member
    with world.client() as client:
        call = lambda: client.post("/v1/fleet/get-run", content=b"", headers=person.headers)  # noqa: E731
        assert call().status_code == 200
        Enrolment(world.enrolment._path).revoke(member, world.gone.append)  # another process
        assert call().status_code == 410
    assert len(world.stub.requests) == 1 and world.gone == [member]
    with pytest.raises(InputError, match="enrolled already"):
        person.join(world)


def test_leave(world: World) -> None:
    person = Person()
    membership = person.join(world)
    with pytest.raises(InputError, match="time"):
        leave(membership, person.key, clock=lambda: 1.0)
    with pytest.raises(InputError, match="No member"):
        leave(membership, Person().key)
    for _ in range(2):
        leave(membership, person.key)
    assert world.gone == [membership.member]
    with world.client() as client:
        answer = client.post("/v1/fleet/get-run", content=b"", headers=person.headers)
        assert answer.status_code == 410


def test_what_speaks_in_anothers_name_does_not_pass(world: World) -> None:
    person = Person()
    person.join(world)
    with world.client() as client:
        for body, status in ((PushMessagesRequest().SerializeToString(), 403), (b"\xff", 400)):
            answer = client.post("/v1/fleet/push-messages", content=body, headers=person.headers)
            assert answer.status_code == status
        answer = client.post("/v1/fleet/pull-object", content=b"", headers=person.headers)
        assert answer.status_code == 403
    assert world.stub.requests == []


# Enrolment


def test_enrolment_that_is_repeated(world: World) -> None:
    person, code = Person(), world.enrolment.invite()
    first = person.join(world, code)
    assert person.join(world, code) == first
    with pytest.raises(InputError, match="used by another"):
        Person().join(world, code)
    assert len(world.nodes) == 1


def test_codes_that_do_not_open(world: World) -> None:
    expired = world.enrolment.invite(hours=1e-9)
    with pytest.raises(InputError, match="expired"):
        Person().join(world, expired)
    with pytest.raises(InputError, match="not known"):
        Person().join(world, spell_code(new_code()))
    with pytest.raises(InputError, match="slip"):
        Person().join(world, "ABCD")
    assert world.nodes == {}


def test_too_many_wrong_codes(world: World) -> None:
    body = EnrolRequest.signed(new_code(), Person().key, Person().node_key).encode()
    with world.client() as client:
        statuses = [client.post("/v1/enrol", content=body).status_code for _ in range(12)]
    assert statuses == [403] * 10 + [429] * 2
    with world.client("127.0.0.2") as client:
        assert client.post("/v1/enrol", content=body).status_code == 403


def test_enrolment_that_is_replayed_by_others(world: World) -> None:
    """Whoever saw a whole request gets the same answer, which is worth nothing without the keys;
    with any part of it changed they get none."""
    person, thief, code = Person(), Person(), world.enrolment.invite()
    request = EnrolRequest.signed(read_code(code), person.key, person.node_key)
    forged = EnrolRequest(request.code, request.device_key, thief.node_key, request.proof)
    with world.client() as client:
        assert client.post("/v1/enrol", content=forged.encode()).status_code == 400
        first = client.post("/v1/enrol", content=request.encode())
        assert client.post("/v1/enrol", content=request.encode()).content == first.content
        assert client.post("/v1/enrol", content=forged.encode()).status_code == 400
    assert list(world.nodes) == [person.node_key]


def test_no_log_line_tells_a_code(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    codes = [world.enrolment.invite(), spell_code(new_code())]
    Person().join(world, codes[0])
    for code in codes:
        with pytest.raises(InputError):
            Person().join(world, code)
        for target in (f"/v1/enrol?code={code}", f"/v1/enrol/{code.lower()}", f"/{code}"):
            world.talk(f"POST {target} HTTP/1.1\r\nHost: {code}\r\nX: {code}\r\n\r\n".encode())
        world.talk(f"{code}\r\n\r\n".encode())
    ours = "\n".join(one.getMessage() for one in caplog.records if one.name.startswith("privity"))
    assert "refused 127.0.0.1" in ours
    for code in codes:
        for trace in (code, code.replace("-", ""), code[:9]):
            assert trace.lower() not in ours.lower()


# What a device is told


def test_wrong_fingerprint_sends_nothing(world: World) -> None:
    code = world.enrolment.invite()
    with pytest.raises(InputError, match="not the one given"):
        Person().join(world, code, ca_fingerprint="00" * 32)
    _until(lambda: world.gateway.figures()["answers"] == {"/v1/ca 200": 1})
    assert world.refusals == {}
    Person().join(world, code)


def test_a_server_of_another_authority(open_world: Opener, tmp_path: Path) -> None:
    """Somebody in between who hands out the true authority's certificate, which anybody can get."""
    world = open_world()
    other = place.create(tmp_path / "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(other.server_certificate, other.server_key)
    seen: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    ca_pem = world.made.ca_certificate.read_bytes()

    def serve() -> None:
        for _ in range(2):
            plain, _address = listener.accept()
            with suppress(OSError), closing(context.wrap_socket(plain, server_side=True)) as tls:
                seen.append(tls.recv(65536))
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ca_pem) + ca_pem)

    threading.Thread(target=serve, daemon=True).start()
    code = world.enrolment.invite()
    between = f"https://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(PrivityError, match="not the authority's"):
        Person().join(world, code, url=between)
    assert len(seen) == 1 and seen[0].startswith(b"GET /v1/ca ")
    listener.close()


def test_a_server_that_lies_about_the_certificate(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = joining.EnrolAnswer.decode

    def other_member(data: bytes) -> Any:
        answer = genuine(data)
        return type(answer)(
            answer.member + 1, answer.certificate, answer.authority, answer.federation
        )

    monkeypatch.setattr(joining.EnrolAnswer, "decode", other_member)
    with pytest.raises(PrivityError, match="another device's"):
        Person().join(world)


@pytest.mark.parametrize(("days", "words"), [(-500, "has expired"), (10, "not valid yet")])
def test_clocks_that_disagree(open_world: Opener, tmp_path: Path, days: int, words: str) -> None:
    now = datetime.now(UTC) + timedelta(days=days)
    wrong = place.create(tmp_path / "wrong")
    server = certificates.new_server(wrong.ca(), [], now)
    wrong.server_key.write_bytes(server.key_pem())
    wrong.server_certificate.write_bytes(server.certificate_pem())
    world = open_world()
    world.do(_use(world.gateway, wrong))
    with pytest.raises(PrivityError, match=words) as caught:
        Person().join(world, ca_fingerprint=wrong.fingerprint())
    assert "date and time" in caught.value.hint


async def _use(gateway: Gateway, other: place.Place) -> None:
    gateway._certificate, gateway._key = other.server_certificate, other.server_key
    gateway.reload_certificate()
    services = gateway._shared.services
    object.__setattr__(services, "ca_pem", other.ca_certificate.read_bytes())


def test_addresses_that_lead_nowhere(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(PrivityError, match="did not answer in time"):
            join(
                f"127.0.0.1:{port}", spell_code(new_code()), "00" * 32, Person().key,
                Person().node, 0.3,
            )  # fmt: skip
    with pytest.raises(PrivityError, match="cannot be reached"):
        Person().join(world, url=f"127.0.0.1:{port}")
    for url in ("http://a", "https://", "a/b", "https://u:p@a", "https://a?x", "a:99999", "a b"):
        with pytest.raises(InputError):
            Person().join(world, url=url)


def test_proxies_of_the_environment_are_not_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    Person().join(world)


def test_a_flower_that_is_down(world: World) -> None:
    person = Person()
    person.join(world)
    world.stub.close()
    with world.client() as client:
        answer = client.post("/v1/fleet/get-run", content=b"", headers=person.headers)
        assert answer.status_code == 502
    assert world.healthy()


def test_a_flower_that_hangs(world: World) -> None:
    person = Person()
    person.join(world)
    world.stub.delay_s = 3
    with world.client() as client:
        began = time.monotonic()
        answer = client.post("/v1/fleet/get-run", content=b"", headers=person.headers)
        assert answer.status_code == 504 and time.monotonic() - began < 2.5
    assert world.healthy()


def test_a_flower_that_breaks_off(world: World) -> None:
    """A device must not take half an answer for a whole one."""
    person = Person()
    person.join(world)
    world.stub.missing = 5
    with world.client() as client, pytest.raises(httpx.RemoteProtocolError):
        client.post("/v1/fleet/get-run", content=b"", headers=person.headers)
    world.stub.missing, world.stub.status = 0, 401
    with world.client() as client:
        answer = client.post("/v1/fleet/get-run", content=b"", headers=person.headers)
        assert (answer.status_code, answer.content) == (401, b"answer")
    assert world.healthy()


# Sizes


def test_bodies_that_are_too_large(world: World) -> None:
    person = Person()
    person.join(world)
    cases = [("/v1/enrol", 16 * 1024), ("/v1/leave", 16 * 1024)]
    cases += [("/v1/fleet/pull-messages", 64 * 1024), ("/v1/fleet/push-object", 32 * 2**20)]
    for path, limit in cases:
        lines = "".join(f"{name}: {value}\r\n" for name, value in person.headers.items())
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: "
        assert world.talk(f"{head}{limit + 1}\r\n\r\n".encode()).startswith(b"HTTP/1.1 413")
        assert world.talk(f"{head}{10**19}\r\n\r\n".encode()).startswith(b"HTTP/1.1 413")
        chunked = f"{head[:-16]}Transfer-Encoding: chunked\r\n\r\n" + "5\r\naaaaa\r\n" * 100
        assert world.talk(chunked.encode()).startswith(b"HTTP/1.1 411")
        none = f"{head[:-16]}\r\n"
        assert world.talk(none.encode()).startswith(b"HTTP/1.1 411")
    assert world.talk(b"GET /v1/ca HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na").startswith(
        b"HTTP/1.1 413"
    )
    assert world.stub.requests == []


def test_a_stranger_takes_no_memory(open_world: Opener) -> None:
    """The key is asked for before the first byte of a body is read or set aside."""
    world = open_world(Limits(memory_mib=1, object_mib=1, body_s=1))
    holders = []
    for _ in range(3):
        holder = world.connect()
        holder.sendall(
            b"POST /v1/fleet/push-object HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
        )
        holders.append(holder)
    assert all(b" 403 " in holder.recv(100) for holder in holders)
    person = Person()
    person.join(world)
    with world.client() as client:
        answer = client.post(
            "/v1/fleet/push-object", content=pushed(1_000_000), headers=person.headers
        )
        assert answer.status_code == 200
    for holder in holders:
        holder.close()


def test_memory_and_requests_of_one_device_are_bounded(open_world: Opener) -> None:
    world = open_world(Limits(memory_mib=3, object_mib=1, requests_per_device=2))
    greedy, other = Person(), Person()
    greedy.join(world)
    other.join(world)
    lines = "".join(f"{name}: {value}\r\n" for name, value in greedy.headers.items())
    head = (
        f"POST /v1/fleet/push-object HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: 1048576\r\n\r\n"
    )
    holders = [world.connect() for _ in range(2)]
    for holder in holders:
        holder.sendall(head.encode())
    _until(lambda: world.gateway._shared.admission._free_bytes == 2**20)
    with world.client() as client:
        post = lambda one: client.post("/v1/fleet/get-run", content=b"", headers=one.headers)  # noqa: E731
        assert post(greedy).status_code == 503
        assert post(other).status_code == 200
        full = client.post("/v1/fleet/push-object", content=pushed(2**20), headers=other.headers)
        assert full.status_code == 200
    for holder in holders:
        holder.close()
    _until(lambda: world.gateway._shared.admission._free_bytes == 3 * 2**20)


def _until(holds: Callable[[], bool], within_s: float = 5.0) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


# Smuggling and other malformed requests


SMUGGLED = [
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n\r\naaaaa",
    "Content-Length: 5, 6\r\n\r\naaaaa",
    "Content-Length: +5\r\n\r\naaaaa",
    "Content-Length: 0x5\r\n\r\naaaaa",
    "Content-Length: -1\r\n\r\n",
    "Content-Length: 5\r\nTransfer-Encoding : chunked\r\n\r\n",
    "Transfer-Encoding: xchunked\r\n\r\n",
    "Transfer-Encoding: gzip, chunked\r\n\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
    " Content-Length: 5\r\n\r\n",
    "Content-Length\x00: 5\r\n\r\n",
    "Content-Length: 5\rX: y\r\n\r\n",
    "Host: b\r\nContent-Length: 0\r\n\r\n",
]


@pytest.mark.parametrize("framing", SMUGGLED)
def test_smuggling(world: World, framing: str) -> None:
    """One answer, a refusal, and the connection is closed: what follows is no request."""
    person = Person()
    person.join(world)
    key = person.headers[KEY_HEADER]
    head = f"POST /v1/fleet/get-run HTTP/1.1\r\nHost: a\r\n{KEY_HEADER}: {key}\r\n"
    second = "GET /v1/health HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = world.talk((head + framing + second).encode("latin-1"))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer[9:12] in (b"400", b"411", b"501"), answer
    assert world.stub.requests == []


def test_requests_one_behind_the_other_keep_apart(world: World) -> None:
    person = Person()
    person.join(world)
    key = person.headers[KEY_HEADER]
    one = f"POST /v1/fleet/get-run HTTP/1.1\r\nHost: a\r\n{KEY_HEADER}: {key}\r\nContent-Length: "
    hidden = "GET /v1/ca HTTP/1.1\r\nHost: a\r\n\r\n"
    last = "GET /v1/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = world.talk(f"{one}{len(hidden)}\r\n\r\n{hidden}{one}2\r\n\r\nab{last}".encode())
    assert answer.count(b"HTTP/1.1 200") == 3
    assert [body for _, _, body in world.stub.requests] == [hidden.encode(), b"ab"]


MALFORMED = [
    b"\x00" * 1000, b"GET\r\n\r\n", b"GET /v1/ca\r\n\r\n", b"GET /v1/ca HTTP/1.1\r\n\r\n",
    b"GET /v1/ca HTTP/0.9\r\n\r\n", b"GET /v1/ca HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
    b"GET /v1/ca HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /v1/ca HTTP/1.0\r\n\r\n", b"GET /v1/ca HTTP/2.0\r\nHost: a\r\n\r\n",
    b"GET  /v1/ca HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n" * 500, b"a" * 100_000,
    b"".join(b"GET /v1/ca HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5000 + b"\r\n" for _ in "a"),
]  # fmt: skip


def test_malformed_requests(world: World) -> None:
    for request in MALFORMED:
        answer = world.talk(request)
        assert answer == b"" or answer[9:12] in (b"400", b"404", b"408", b"431", b"501", b"505"), (
            request[:40]
        )
        assert b"HTTP/1.1 200" not in answer
    assert world.healthy()


def test_expect_100_continue(world: World) -> None:
    person = Person()
    person.join(world)
    for headers, wanted in ((person.headers, b"100"), ({}, b"403")):
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with closing(world.connect()) as connection:
            connection.sendall(
                b"POST /v1/fleet/get-run HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                + lines.encode() + b"Content-Length: 3\r\n\r\n"
            )  # fmt: skip
            assert connection.recv(100)[9:12] == wanted
            if wanted == b"100":
                connection.sendall(b"abc")
                assert connection.recv(100)[9:12] == b"200"


# Slowness and numbers


def drip(connection: socket.socket, data: bytes, every_s: float = 0.1) -> float:
    """Send byte by byte until the other side has enough; seconds that took."""
    began = time.monotonic()
    with suppress(OSError):
        for at in range(len(data)):
            connection.sendall(data[at : at + 1])
            time.sleep(every_s)
    return time.monotonic() - began


def test_slow_headers(world: World) -> None:
    with closing(world.connect()) as connection:
        began = time.monotonic()
        thread = threading.Thread(
            target=drip, args=(connection, b"GET /v1/ca HTTP/1.1\r\nX: " + b"a" * 80), daemon=True
        )
        thread.start()
        assert b" 408 " in _rest(connection)
        assert 0.8 < time.monotonic() - began < 5
        assert world.refusals["headers too slow"] == 1
    thread.join()


def test_slow_body(world: World) -> None:
    person = Person()
    person.join(world)
    lines = "".join(f"{name}: {value}\r\n" for name, value in person.headers.items())
    head = f"POST /v1/fleet/push-object HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: 1000\r\n\r\n"
    with closing(world.connect()) as connection:
        connection.sendall(head.encode())
        threading.Thread(target=drip, args=(connection, b"a" * 80), daemon=True).start()
        assert b" 408 " in _rest(connection)
    assert world.refusals["body too slow"] == 1 and world.stub.requests == []
    _until(lambda: world.gateway._shared.admission._free_bytes == 256 * 2**20)


def test_slow_reader(open_world: Opener) -> None:
    world = open_world(Limits(body_s=0.5, least_kib_s=20_000))
    person = Person()
    person.join(world)
    world.stub.body = b"a" * 30_000_000
    lines = "".join(f"{name}: {value}\r\n" for name, value in person.headers.items())
    with closing(world.connect()) as connection:
        head = f"POST /v1/fleet/get-run HTTP/1.1\r\nHost: a\r\n{lines}"
        connection.sendall(f"{head}Content-Length: 0\r\n\r\n".encode())
        _until(lambda: "answer read too slowly" in world.refusals)
        _until(lambda: world.gateway.figures()["connections"] == 0, 10)
    assert world.healthy()


def test_idle_connections_are_closed(world: World) -> None:
    with closing(world.connect()) as silent, closing(world.connect()) as served:
        served.sendall(b"GET /v1/health HTTP/1.1\r\nHost: a\r\n\r\n")
        began = time.monotonic()
        assert b" 408 " in _rest(silent)
        assert _rest(served).startswith(b"HTTP/1.1 200")
        assert time.monotonic() - began < 5


def test_what_is_not_tls(world: World) -> None:
    for garbage in (
        b"GET /v1/ca HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x00" * 5000,
        b"\x16\x03\x01\xff\xff" + b"a" * 9000,
    ):
        with closing(world.plain()) as connection:
            connection.sendall(garbage)
            assert b"HTTP" not in _rest(connection)
    with closing(world.plain()) as silent:
        began = time.monotonic()
        assert _rest(silent) == b""
        assert 0.8 < time.monotonic() - began < 5
    _until(lambda: world.refusals.get("TLS handshake too slow") == 1)
    assert world.refusals["TLS handshake failed"] == 3
    assert world.healthy()


def test_old_tls_is_refused(world: World) -> None:
    context = world.trust()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        context.wrap_socket(world.plain(), server_hostname="127.0.0.1")


def test_a_thousand_connections_of_one_address(open_world: Opener) -> None:
    world = open_world(Limits(connections_per_address=50, connects_per_minute=100_000))
    held = []
    for _ in range(1000):
        with suppress(OSError):
            held.append(world.plain())
    _until(lambda: world.refusals.get("too many connections of this address", 0) == 950, 20)
    assert world.gateway.figures()["connections"] == 50
    with pytest.raises(httpx.HTTPError):
        world.healthy("127.0.0.1")
    began = time.monotonic()
    assert world.healthy("127.0.0.2")
    assert time.monotonic() - began < 2
    for one in held:
        one.close()
    _until(lambda: world.gateway.figures()["connections"] == 0)
    assert world.healthy("127.0.0.1")


def test_connections_in_all(open_world: Opener) -> None:
    world = open_world(Limits(connections=3))
    held = [world.plain(f"127.0.0.{n}") for n in (2, 3, 4)]
    _until(lambda: world.gateway.figures()["connections"] == 3)
    with pytest.raises(httpx.HTTPError):
        world.healthy("127.0.0.5")
    held[0].close()
    _until(lambda: world.gateway.figures()["connections"] == 2)
    assert world.healthy("127.0.0.5")
    for one in held:
        one.close()


def test_connecting_again_and_again(open_world: Opener) -> None:
    world = open_world(Limits(connects_per_minute=5))
    for _ in range(5):
        assert world.healthy()
    with pytest.raises(httpx.HTTPError):
        world.healthy()
    assert world.healthy("127.0.0.2")


# Stopping


def test_requests_end_before_the_gateway_does(open_world: Opener) -> None:
    world = open_world(Limits(shutdown_s=5))
    person = Person()
    person.join(world)
    world.stub.delay_s = 0.5
    answers: list[int] = []

    def ask() -> None:
        with world.client() as client:
            answer = client.post("/v1/fleet/get-run", content=b"", headers=person.headers)
            answers.append(answer.status_code)

    asking = threading.Thread(target=ask)
    with closing(world.connect()):  # idle, and not waited for
        asking.start()
        _until(lambda: len(world.stub.requests) == 1)
        began = time.monotonic()
        world.do(world.gateway.close())
        assert time.monotonic() - began < 3
    asking.join()
    assert answers == [200]
    with pytest.raises(OSError):
        world.plain()


def test_a_port_that_is_taken(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        world_port = taken.getsockname()[1]
        fresh = Gateway(
            world.made.server_certificate,
            world.made.server_key,
            world.gateway._shared.services,
            world.gateway._shared.upstream,
            FAST,
        )
        with pytest.raises(InputError, match="Nothing can listen"):
            world.do(fresh.start("127.0.0.1", world_port))


# Bookkeeping


def test_addresses_are_counted_as_networks() -> None:
    assert source_of("192.0.2.1") == "192.0.2.1"
    assert source_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff") == "2001:db8::/64"
    assert source_of("2001:db8:0:1::1") != source_of("2001:db8::1")
    assert source_of("fe80::1%eth0") == "fe80::/64"


def test_the_rate_of_connections_recovers() -> None:
    now = [0.0]
    admission = Admission(Limits(connects_per_minute=60), lambda: now[0])

    def burst(count: int) -> int:
        entered = 0
        for _ in range(count):
            if not admission.enter("a"):
                entered += 1
                admission.leave("a")
        return entered

    assert burst(100) == 60
    now[0] += 10
    assert burst(100) == 10


def test_a_flood_of_refusals_is_told_by_samples(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    refusals = Refusals(lambda: now[0])
    for _ in range(1000):
        refusals.note("a", "connection", "too many")
    assert len(caplog.records) == 10 and refusals.counts["too many"] == 1000
    now[0] += 1
    refusals.note("a", "connection", "too many")
    assert "990 more" in caplog.records[10].getMessage() and len(caplog.records) == 12


def test_a_target_is_shown_only_where_it_is_plain() -> None:
    assert shown(b"/v1/fleet/get-fab") == "/v1/fleet/get-fab"
    for target in (
        b"/v1/enrol?a",
        b"/\x1b[2J",
        b"/v1/enrol/" + spell_code(new_code()).lower().encode(),
    ):
        assert shown(target) == "…"
