"""What the gateway lets through, and who gets through it."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.proto.fleet_pb2 import ActivateNodeRequest, ActivateNodeResponse, PushMessagesRequest
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from gateway_world import KEY_HEADER, OFFER, Person, World, pushed

from client.federation.joining import leave, offered
from common.errors import InputError, PrivityError
from server.enrolment.enrolment import Enrolment

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


def test_anybody_may_read_the_terms_before_joining(world: World) -> None:
    assert offered(world.url, world.made.fingerprint()) == OFFER
    with world.client() as client:
        assert client.get("/v1/terms").headers["content-type"] == "application/json"
        assert client.get("/v1/terms?x").status_code == 404
    services = world.gateway._shared.services
    object.__setattr__(services, "terms", lambda: b'{"version": 2}')
    with pytest.raises(PrivityError, match="does not say what its rounds ask"):
        offered(world.url, world.made.fingerprint())
    with pytest.raises(InputError, match="fingerprint"):
        offered(world.url, "00" * 32)


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
