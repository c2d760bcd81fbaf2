"""The gateway in front of a real SuperLink, driven by Flower's own connection."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deployment import free_port
from flwr.app import Message
from flwr.common.serde import run_from_proto
from flwr.proto.fleet_pb2 import DeactivateNodeRequest, PullMessagesRequest, PushMessagesRequest
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    Metadata,
    ObjectTree,
    PullObjectRequest,
)
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.node_pb2 import Node
from flwr.proto.recorddict_pb2 import RecordDict
from flwr.proto.run_pb2 import GetRunRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PullTaskInputRequest
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.fleet_http_connection import http_request_response
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from client.federation.joining import join
from client.federation.link import Link, RunOverError, connect
from common.errors import PrivityError
from common.settings import Settings
from server.deployment import place
from server.deployment.superlink import Control, flower_place
from server.enrolment.desk import Desk
from server.enrolment.enrolment import Enrolment
from server.enrolment.nodes import Nodes
from server.gateway.connection import Services
from server.gateway.front import Gateway
from server.gateway.limits import Limits
from server.gateway.upstream import Upstream
from server.round.cohort import Cohort, Messenger, _messages
from server.round.replies import Replies
from server.round.setup import ask

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


@pytest.fixture
def superlink(tmp_path: Path) -> Iterator[tuple[place.Place, int]]:
    made = place.create(tmp_path / "ours")
    port = free_port()
    command = [
        str(Path(sys.executable).parent / "flower-superlink"),
        "--host", "127.0.0.1", "--port", str(port),
        "--ssl-ca-certfile", str(made.ca_certificate),
        "--ssl-certfile", str(made.server_pem), "--ssl-keyfile", str(made.server_pem),
        "--enable-supernode-auth", "--database", str(made.superlink_file),
        "--isolation", "process", "--disable-runtime-dependency-installation",
    ]  # fmt: skip
    environment = os.environ | QUIET | {"FLWR_HOME": str(tmp_path / "flower")}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            yield made, port
        finally:
            process.kill()
            process.wait(60)


def registered(nodes: Nodes, node_key: bytes) -> int:
    end = time.monotonic() + 60
    while True:
        try:
            return nodes.register(node_key)
        except PrivityError:
            assert time.monotonic() < end
            time.sleep(0.5)


@pytest.mark.long
def test_a_device_at_a_real_superlink(superlink: tuple[place.Place, int]) -> None:
    made, port = superlink
    nodes = Nodes(f"127.0.0.1:{port}", made.ca_certificate.read_bytes())

    spare = public_key_to_bytes(generate_key_pairs()[1])
    member = registered(nodes, spare)
    assert nodes.register(spare) == member
    for _ in range(2):
        nodes.unregister(member)
    with pytest.raises(PrivityError, match="does not register"):
        nodes.register(spare)

    with gateway_before(made, port, nodes) as (address, enrolment):
        node = generate_key_pairs()
        joined = join(
            address, enrolment.invite(), made.fingerprint(), Ed25519PrivateKey.generate(), node[0]
        )
        with http_request_response(address, False, joined.ca_pem, node) as connection:
            assert connection[0] == joined.member
            receive, get_fab = connection[1], connection[4]
            assert receive() is None
            with pytest.raises(httpx.HTTPStatusError, match="404"):
                get_fab("0" * 64, 1)
            enrolment.revoke(joined.member, nodes.unregister)
            with pytest.raises(httpx.HTTPStatusError, match="410"):
                receive()


@dataclass
class Attacker:
    """An enrolled device with Flower's client, that says what it likes."""

    client: FleetHttpClient
    node: Node
    run: int

    def push(self, name: str, seconds: float = 1.0, **about: Any) -> int:
        """Announce a message; the HTTP status."""
        said = {
            "run_id": self.run, "message_id": name, "src_node_id": self.node.node_id,
            "dst_node_id": 1, "reply_to_message_id": "", "ttl": 60.0,
            "message_type": "query.adopt", "created_at": time.time(),
        } | about  # fmt: skip
        message = ProtoMessage(metadata=Metadata(**said), content=RecordDict())
        return self.status(
            self.client.PushMessages,
            PushMessagesRequest(
                node=self.node, messages_list=[message],
                message_object_trees=[ObjectTree(object_id=name)],
                clientapp_runtime_list=[seconds],
            ),
        )  # fmt: skip

    def status(self, call: Callable[[Any], Any], request: Any) -> int:
        try:
            call(request)
        except httpx.HTTPStatusError as error:
            return error.response.status_code
        return 200


@pytest.mark.long
def test_a_device_speaks_for_nobody_else(
    superlink: tuple[place.Place, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An enrolled device tries to instruct another, to answer for it, to cut it off, and to end
    the rounds with numbers that are none; a round's messages reach everybody all the same."""
    made, port = superlink
    nodes = Nodes(f"127.0.0.1:{port}", made.ca_certificate.read_bytes())
    spare = registered(nodes, public_key_to_bytes(generate_key_pairs()[1]))
    nodes.unregister(spare)
    with (
        gateway_before(made, port, nodes) as (address, enrolment),
        linked(made, address, enrolment) as (attacking, attacker),
        linked(made, address, enrolment) as (_, victim),
    ):
        grid = running(made, port, monkeypatch)
        attack = Attacker(attacking, Node(node_id=attacker.node), grid.run.run_id)
        names = dict(zip((attacker.node, victim.node), grid.push_messages(_messages([
            ask(Cohort(1, 0, [attacker.node, victim.node], lambda *_: False), "confirm",
                {attacker.node: b"?", victim.node: b"?"})
        ], 60.0)), strict=True))  # fmt: skip
        mine, theirs = names[attacker.node], names[victim.node]

        # As the server to everybody, which Flower would hand on; as the victim; to another device.
        order = {"src_node_id": 1, "dst_node_id": victim.node}
        assert attack.push("a" * 64, **order) == 403
        assert attack.push("a" * 64, **order, reply_to_message_id=theirs) == 403
        answer = {"reply_to_message_id": theirs}
        assert attack.push("b" * 64, **answer, src_node_id=victim.node) == 403
        assert attack.push("b" * 64, **answer, dst_node_id=victim.node) == 403
        # In its own name, to what was asked of another: Flower keeps none of it.
        assert attack.push("b" * 64, **answer) == 200
        # Numbers that are none.
        assert attack.push("c" * 64, reply_to_message_id=mine, created_at=math.nan) == 403
        assert attack.push("c" * 64, reply_to_message_id=mine, ttl=math.nan) == 403
        # As another node.
        other = Node(node_id=victim.node)
        for call, request in (
            (attacking.PullMessages, PullMessagesRequest(node=other)),
            (attacking.DeactivateNode, DeactivateNodeRequest(node_id=victim.node)),
            (attacking.SendNodeHeartbeat, SendNodeHeartbeatRequest(node=other)),
            (
                attacking.ConfirmMessageReceived,
                ConfirmMessageReceivedRequest(node=other, message_object_id=theirs),
            ),
            (attacking.PullObject, PullObjectRequest(node=other, object_id=theirs)),
            (attacking.GetRun, GetRunRequest(node=other, run_id=grid.run.run_id)),
        ):
            assert attack.status(call, request) == 401

        for link in (attacker, victim):
            asked = link.receive()
            assert asked is not None and asked.metadata.message_type == "query.confirm"
            assert asked.metadata.reply_to_message_id == ""
            link.send(Message(asked.content, reply_to=asked))
        assert victim.receive() is None
        replies, came = Replies(grid), set()
        while came < {attacker.node, victim.node}:
            came |= {one.metadata.src_node_id for one in replies.look({mine, theirs})}


@pytest.mark.long
def test_a_message_that_got_lost_and_one_that_is_late(
    superlink: tuple[place.Place, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower hands a message out once; it is asked once more. One that is over is not answered."""
    made, port = superlink
    nodes = Nodes(f"127.0.0.1:{port}", made.ca_certificate.read_bytes())
    nodes.unregister(registered(nodes, public_key_to_bytes(generate_key_pairs()[1])))
    with (
        gateway_before(made, port, nodes) as (address, enrolment),
        linked(made, address, enrolment) as (losing, unlucky),
        linked(made, address, enrolment) as (_, lucky),
    ):
        grid = running(made, port, monkeypatch)
        monkeypatch.setattr("server.round.cohort.AGAIN_S", 1.0)
        monkeypatch.setattr(
            "client.federation.link.TaskIdentity", SimpleNamespace()
        )  # the server's here
        members = [unlucky.node, lucky.node]
        asking = ask(
            Cohort(1, 0, members, lambda *_: False), "confirm", dict.fromkeys(members, b"?")
        )

        def take_part() -> None:
            pulled = PullMessagesRequest(node=Node(node_id=unlucky.node))
            end = time.monotonic() + 30
            while not losing.PullMessages(pulled).messages_list and time.monotonic() < end:
                time.sleep(0.05)
            for link in (lucky, unlucky):
                while (asked := link.receive()) is None and time.monotonic() < end:
                    time.sleep(0.05)
                assert asked is not None
                link.send(Message(asked.content, reply_to=asked))

        with ThreadPoolExecutor() as pool:
            took_part = pool.submit(take_part)
            answers, _ = Messenger(grid, 60.0, again=True).exchange(asking)
            took_part.result()
        assert answers == dict.fromkeys(members, b"?")

        names = [next(iter(grid.push_messages(_messages([asking], 2.0)))) for _ in range(2)]
        late = unlucky.receive()
        assert late is not None
        time.sleep(2.5)
        with pytest.raises(RunOverError):
            unlucky.send(Message(late.content, reply_to=late))
        assert unlucky.receive() is None
        assert not [one for one in Replies(grid).look(set(names)) if one.has_content()]


@contextlib.contextmanager
def linked(
    made: place.Place, address: str, enrolment: Enrolment
) -> Iterator[tuple[FleetHttpClient, Link]]:
    """A device that joined, by its own link and by Flower's client."""
    key, code = generate_key_pairs()[0], enrolment.invite()
    joined = join(address, code, made.fingerprint(), Ed25519PrivateKey.generate(), key)
    with (
        connect(address, joined.ca_pem, key, joined.member) as link,
        FleetHttpClient.from_server_address(
            address, False, joined.ca_pem, [NodeAuthHttpInterceptor(key, key.public_key())]
        ) as client,
    ):
        yield client, link


def running(made: place.Place, port: int, monkeypatch: pytest.MonkeyPatch) -> HttpGrid:
    """A run as the superexec and the ServerApp take it up, with its end of the messages."""
    flower = flower_place(made)
    control = Control(replace(flower, port=port))
    run = control.start(Settings())
    control.close()
    ca_pem = made.ca_certificate.read_bytes()
    with RuntimeHttpClient.from_server_address(f"127.0.0.1:{port}", False, ca_pem, []) as client:
        task = client.AcquireTask(AcquireTaskRequest(supported_task_types=["flwr-serverapp"]))
    for name, value in (("run_id", run), ("task_id", 1), ("node_id", 1)):
        monkeypatch.setattr(TaskIdentity, f"_{name}", value)
    grid = HttpGrid(f"127.0.0.1:{port}", False, ca_pem, token=task.token)
    grid.set_run(run_from_proto(grid._runtime_client.PullTaskInput(PullTaskInputRequest()).run))
    return grid


@contextlib.contextmanager
def gateway_before(made: place.Place, port: int, nodes: Nodes) -> Iterator[tuple[str, Enrolment]]:
    """A gateway before the SuperLink at `port`; its address, and who may join."""
    ca_pem, enrolment = made.ca_certificate.read_bytes(), made.enrolment()
    desk = Desk(enrolment, made.authority(), "Ours", nodes.register, nodes.unregister)
    services = Services(made.authorities().encode(), enrolment.is_known, desk.answer)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def begin() -> tuple[Gateway, int]:
        upstream = Upstream(f"https://127.0.0.1:{port}", ca_pem, 30)
        gateway = Gateway(made.server_pem, services, upstream, Limits())
        return gateway, (await gateway.start("127.0.0.1", 0))[1]

    gateway, public = asyncio.run_coroutine_threadsafe(begin(), loop).result(30)
    try:
        yield f"127.0.0.1:{public}", enrolment
    finally:
        asyncio.run_coroutine_threadsafe(gateway.close(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
