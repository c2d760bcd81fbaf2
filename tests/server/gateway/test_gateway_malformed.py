"""Requests that are too large, smuggled or malformed."""

from __future__ import annotations

from contextlib import closing

import pytest
from gateway_world import KEY_HEADER, Opener, Person, World, pushed, until

from server.gateway.limits import Limits

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
    until(lambda: world.gateway._shared.admission._free_bytes == 2**20)
    with world.client() as client:
        post = lambda one: client.post("/v1/fleet/get-run", content=b"", headers=one.headers)  # noqa: E731
        assert post(greedy).status_code == 503
        assert post(other).status_code == 200
        full = client.post("/v1/fleet/push-object", content=pushed(2**20), headers=other.headers)
        assert full.status_code == 200
    for holder in holders:
        holder.close()
    until(lambda: world.gateway._shared.admission._free_bytes == 3 * 2**20)


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


def test_other_versions_of_http_are_refused_as_such(world: World) -> None:
    """HTTP/2 by its preface or in a request line; it is not offered in TLS, nor as an upgrade."""
    for request in (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1/ca HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET /v1/ca HTTP/1.0\r\n\r\n",
    ):
        assert world.talk(request).startswith(b"HTTP/1.1 505 ")
    trust = world.trust()
    trust.set_alpn_protocols(["h2"])
    with closing(trust.wrap_socket(world.plain(), server_hostname="127.0.0.1")) as link:
        assert link.selected_alpn_protocol() is None


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
