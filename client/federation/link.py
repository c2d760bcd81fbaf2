"""The device's end of Flower's Fleet API, driven by this process itself.

A stock SuperNode polls every three seconds, fetches a bundle of code for each run and starts a
process for each message. Here one warm process asks at its own pace, never asks for a bundle, and
calls the installed client alone. All use of Flower's undocumented names on the device is in this
file (flwr 1.41: `supernode/fleet_http_connection.py`, `start_client_internal.py`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from flwr.app.message import Message, remove_content_from_message
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.common.serde import message_to_proto, run_from_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    pull_and_inflate_object_from_tree,
)
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from client.federation.joining import trusting
from common.errors import PrivityError

BEAT_S = 0.8 * HEARTBEAT_DEFAULT_INTERVAL  # Flower waits for twice the interval
ANSWER_S = 30.0  # as Flower waits for one
KEPT_S = 60.0  # less than the gateway keeps an idle connection
AGAIN_S = (1.0, 3.0)
ONE = 1  # object at a time: a second connection costs both sides more than it saves
ANY_SESSION = ""  # Flower looks up in which one an object is awaited

T = TypeVar("T")


class LinkLostError(PrivityError):
    """The federation cannot be reached now; it is worth trying again."""


class RefusedError(PrivityError):
    """The federation does not know this device, or no longer."""


class RunOverError(PrivityError):
    """What a message was for has ended: its run, or the time in which it is answered."""


@dataclass(slots=True)
class Link:
    """An active node of the federation. Every call may raise one of this module's three errors."""

    node: int
    _client: FleetHttpClient

    def receive(self) -> Message | None:
        """The next message with all its content, or None when there is none now."""
        with _translated():
            answer = self._client.PullMessages(PullMessagesRequest(node=self._node))
            if not answer.messages_list:
                return None
            run, tree = answer.messages_list[0].metadata.run_id, answer.message_object_trees[0]
            confirm = make_confirm_message_received_fn_protobuf(
                self._client.ConfirmMessageReceived, self._node, run
            )
            pull = make_pull_object_fn_protobuf(self._client.PullObject, self._node, run)
        message = _patiently(
            lambda: pull_and_inflate_object_from_tree(
                tree, pull, confirm, return_type=Message, max_concurrent_pulls=ONE
            )
        )
        message.metadata.__dict__["_message_id"] = tree.object_id
        TaskIdentity.run_id, TaskIdentity.task_id = message.metadata.run_id, 1
        TaskIdentity.node_id = self.node
        return message

    def run(self, number: int) -> Run:
        """What the federation says of a run: its settings and its bundle's hash."""
        with _translated():
            return run_from_proto(
                self._client.GetRun(GetRunRequest(node=self._node, run_id=number)).run
            )

    def send(self, reply: Message) -> None:
        """Send a reply. How long it took to make, which Flower would note, is nobody's business."""
        reply.metadata.__dict__["_message_id"] = reply.object_id
        with no_object_id_recompute():
            objects = get_all_nested_objects(reply)
            bare = remove_content_from_message(reply) if reply.has_content() else reply
            request = PushMessagesRequest(
                node=self._node,
                messages_list=[message_to_proto(bare)],
                message_object_trees=[get_object_tree(reply)],
                clientapp_runtime_list=[0.0],
            )
            answer = _patiently(lambda: self._client.PushMessages(request))
            wanted = list(answer.objects_to_push)
            # Announced again, since the first answer was lost, a reply has nothing to push.
            doubtful = set() if wanted else set(objects)
            left = {name: objects[name].deflate() for name in wanted or objects}
            push = make_push_object_fn_protobuf(
                self._client.PushObject, self._node, reply.metadata.run_id, ANY_SESSION
            )
            _patiently(lambda: _push(left, doubtful, push))

    def beat(self) -> None:
        """Tell the federation that this device is here."""
        with _translated():
            _beat(self._client, self.node)

    @property
    def _node(self) -> Node:
        return Node(node_id=self.node)


def _beat(client: FleetHttpClient, node: int) -> None:
    interval = HEARTBEAT_DEFAULT_INTERVAL
    client.SendNodeHeartbeat(
        SendNodeHeartbeatRequest(node=Node(node_id=node), heartbeat_interval=interval)
    )


@contextlib.contextmanager
def connect(
    address: str, ca_pem: bytes, key: EllipticCurvePrivateKey, member: int
) -> Iterator[Link]:
    """An active link, with heartbeats in the background until it is closed.

    Args:
        address: `host:port` of the gateway.
        ca_pem: The only certificate authority that is believed.
        key: The node's P-384 key, which the federation enrolled.
        member: The node's number. Flower counts a node as there for a minute after its last word,
            and admits it no second time; so a link of it that broke is taken up again. Were it
            ended, Flower would give up on the message that is under way. The caller owns the
            vault, and is the only one who may be linked.

    Raises:
        LinkLostError: The gateway cannot be reached.
        RefusedError: It does not accept this device.
    """
    with _Client(address, ca_pem, key) as client:
        with _translated():
            node = _activate(client, public_key_to_bytes(key.public_key()), member)
        link, broken = Link(node, client), False
        try:
            with _heartbeats(link):
                yield link
        except LinkLostError:
            broken = True
            raise
        finally:
            if not broken:
                with contextlib.suppress(PrivityError), _translated():
                    client.DeactivateNode(DeactivateNodeRequest(node_id=link.node))


def _activate(client: FleetHttpClient, public: bytes, member: int) -> int:
    """The node's number, of a node that is online."""
    request = ActivateNodeRequest(public_key=public, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
    try:
        return int(client.ActivateNode(request).node_id)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.PRECONDITION_FAILED:
            raise
    _beat(client, member)
    return member


class _Client(FleetHttpClient):
    """Flower's client, which keeps its connection from one look to the next; no proxy."""

    def __init__(self, address: str, ca_pem: bytes, key: EllipticCurvePrivateKey) -> None:
        trust = trusting(ca_pem)
        signed: list[ProtobufClientInterceptor] = [
            RuntimeVersionHttpInterceptor(component_name="SuperNode"),
            NodeAuthHttpInterceptor(key, key.public_key()),
        ]
        # Flower's own beginning looks for proxies, and ends at one that it cannot use.
        self._base_url, self._interceptors = f"https://{address}", tuple(signed)
        self._retry_invoker = None
        kept = httpx.Limits(max_keepalive_connections=1, keepalive_expiry=KEPT_S)
        self._client = httpx.Client(verify=trust, timeout=ANSWER_S, limits=kept, trust_env=False)


@contextlib.contextmanager
def _heartbeats(link: Link) -> Iterator[None]:
    """A lost beat is the next call's to notice."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_S):
            with contextlib.suppress(PrivityError):
                link.beat()

    thread = threading.Thread(target=beat, name="heartbeats", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _push(left: dict[str, bytes], doubtful: set[str], push: Callable[[str, bytes], None]) -> None:
    """Push objects until none is left.

    One whose answer was lost is doubtful; if it is refused then, it had arrived.
    """
    for name in list(left):
        try:
            push(name, left[name])
        except httpx.HTTPError:
            doubtful.add(name)
            raise
        except ObjectPushError:
            if name not in doubtful:
                raise
        del left[name]


def _patiently(task: Callable[[], T]) -> T:
    """What `task` gives; tried again a little later where the federation was out of reach.

    A message is handed out once, and without its reply this device is lost to the round.
    """
    for pause_s in AGAIN_S:
        with contextlib.suppress(LinkLostError), _translated():
            return task()
        time.sleep(pause_s)
    with _translated():
        return task()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Flower's and httpx's errors as ours; their texts are not repeated."""
    try:
        yield
    except (ObjectPullError, ObjectPushError) as error:  # its database was locked, for one
        raise LinkLostError(f"The federation failed ({type(error).__name__}).") from None
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status == httpx.codes.FORBIDDEN:  # so Flower says it
            raise RunOverError("The run or the round has ended.") from None
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.GONE):
            raise RefusedError(
                f"The federation refuses this device (HTTP {status}).",
                "Check this device's clock; ask the operator whether the device was revoked.",
            ) from None
        raise LinkLostError(f"The federation answered with HTTP {status}.") from None
    except httpx.TransportError as error:
        raise LinkLostError(f"The federation cannot be reached ({type(error).__name__}).") from None
