"""Slow ones, many at once, and the end of the gateway."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from contextlib import closing, suppress

import httpx
import pytest
from gateway_world import USUAL, Opener, Person, World, rest, until

from common.enrolment.protocol import new_code, spell_code
from common.errors import InputError
from server.gateway.admission import Admission, source_of
from server.gateway.front import Gateway
from server.gateway.limits import Limits
from server.gateway.refusals import Refusals, shown

# Slowness and numbers


def drip(connection: ssl.SSLSocket, data: bytes, every_s: float = 0.1) -> bytes:
    """Send byte by byte until the other side says something, or closes; what it says.

    By one thread: two must not read and write one TLS connection at the same time.
    """
    with suppress(OSError):
        for at in range(len(data)):
            if select.select([connection], [], [], every_s)[0]:
                break
            connection.sendall(data[at : at + 1])
    return rest(connection)


def test_slow_headers(open_world: Opener) -> None:
    world = open_world(Limits(headers_s=2, shutdown_s=1))
    began = time.monotonic()
    with closing(world.connect()) as connection:
        assert b" 408 " in drip(connection, b"GET /v1/ca HTTP/1.1\r\nX: " + b"a" * 80)
        assert time.monotonic() - began > 1.9
        assert world.refusals["headers too slow"] == 1


def test_slow_body(open_world: Opener) -> None:
    world = open_world(Limits(body_s=2, shutdown_s=1))
    person = Person()
    person.join(world)
    lines = "".join(f"{name}: {value}\r\n" for name, value in person.headers.items())
    head = f"POST /v1/fleet/push-object HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: 1000\r\n\r\n"
    with closing(world.connect()) as connection:
        connection.sendall(head.encode())
        assert b" 408 " in drip(connection, b"a" * 80)
    assert world.refusals["body too slow"] == 1 and world.stub.requests == []
    until(lambda: world.gateway._shared.admission._free_bytes == 256 * 2**20)


def test_slow_reader(open_world: Opener) -> None:
    world = open_world(Limits(body_s=0.5, least_kib_s=20_000))
    person = Person()
    person.join(world)
    world.stub.body = b"a" * 30_000_000
    lines = "".join(f"{name}: {value}\r\n" for name, value in person.headers.items())
    with closing(world.connect()) as connection:
        head = f"POST /v1/fleet/get-run HTTP/1.1\r\nHost: a\r\n{lines}"
        connection.sendall(f"{head}Content-Length: 0\r\n\r\n".encode())
        until(lambda: "answer read too slowly" in world.refusals)
        until(lambda: world.gateway.figures()["connections"] == 0)
    assert world.healthy()


def test_idle_connections_are_closed(open_world: Opener) -> None:
    world = open_world(Limits(headers_s=2, idle_s=2, shutdown_s=1))
    with closing(world.connect()) as served, closing(world.connect()) as silent:
        served.sendall(b"GET /v1/health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 408 " in rest(silent)
        assert rest(served).startswith(b"HTTP/1.1 200")


def test_what_is_not_tls(open_world: Opener) -> None:
    world = open_world(Limits(handshake_s=2, shutdown_s=1))
    for garbage in (
        b"GET /v1/ca HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x00" * 5000,
        b"\x16\x03\x01\xff\xff" + b"a" * 9000,
    ):
        with closing(world.plain()) as connection:
            connection.sendall(garbage)
            assert b"HTTP" not in rest(connection)
    began = time.monotonic()
    with closing(world.plain()) as silent:
        assert rest(silent) == b""
        assert time.monotonic() - began > 1.9
    until(lambda: world.refusals.get("TLS handshake too slow") == 1)
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
    until(lambda: world.refusals.get("too many connections of this address", 0) == 950)
    assert world.gateway.figures()["connections"] == 50
    with pytest.raises(httpx.HTTPError):
        world.healthy("127.0.0.1")
    assert world.healthy("127.0.0.2")
    for one in held:
        one.close()
    until(lambda: world.gateway.figures()["connections"] == 0)
    assert world.healthy("127.0.0.1")


def test_connections_in_all(open_world: Opener) -> None:
    world = open_world(Limits(connections=3))
    held = [world.plain(f"127.0.0.{n}") for n in (2, 3, 4)]
    until(lambda: world.gateway.figures()["connections"] == 3)
    with pytest.raises(httpx.HTTPError):
        world.healthy("127.0.0.5")
    held[0].close()
    until(lambda: world.gateway.figures()["connections"] == 2)
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
    world = open_world(Limits(shutdown_s=25))
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
        until(lambda: len(world.stub.requests) == 1)
        began = time.monotonic()
        world.do(world.gateway.close())
        assert time.monotonic() - began < 20
    asking.join()
    assert answers == [200]
    with pytest.raises(OSError):
        world.plain()


def test_a_port_that_is_taken(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        world_port = taken.getsockname()[1]
        fresh = Gateway(
            world.made.server_pem,
            world.gateway._shared.services,
            world.gateway._shared.upstream,
            USUAL,
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
