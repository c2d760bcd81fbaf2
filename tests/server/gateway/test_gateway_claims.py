"""A device speaks for itself alone, and to the server alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    Message,
    Metadata,
    ObjectTree,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node

from server.gateway.claims import (
    MAX_OBJECTS,
    require_confirmed,
    require_pulled,
    require_pushed,
    require_reply,
)
from server.gateway.refusals import Refused

NAME, ASKED, PART = (digit * 64 for digit in "abc")
SOUND: dict[str, Any] = {
    "run_id": 1, "message_id": NAME, "src_node_id": 7, "dst_node_id": 1,
    "reply_to_message_id": ASKED, "ttl": 60.0, "message_type": "query", "created_at": 1.8e9,
}  # fmt: skip


def announced(tree: Any = None, times: int = 1, seconds: float = 1.0, **changed: Any) -> bytes:
    message = Message(metadata=Metadata(**(SOUND | changed)))
    tree = tree or ObjectTree(object_id=NAME, children=[ObjectTree(object_id=PART)])
    return PushMessagesRequest(
        node=Node(node_id=7), messages_list=[message] * times,
        message_object_trees=[tree], clientapp_runtime_list=[seconds],
    ).SerializeToString()  # fmt: skip


def test_a_reply_passes() -> None:
    require_reply(announced())
    parts = [ObjectTree(object_id=f"{number:064x}") for number in range(MAX_OBJECTS - 1)]
    require_reply(announced(ObjectTree(object_id=NAME, children=parts)))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"src_node_id": 1, "dst_node_id": 8, "reply_to_message_id": ""}, "another's name"),
        ({"src_node_id": 1}, "another's name"),
        ({"src_node_id": 8}, "another's name"),
        ({"src_node_id": 0}, "another's name"),
        ({"dst_node_id": 8}, "to the server"),
        ({"dst_node_id": 7}, "to the server"),
        ({"reply_to_message_id": ""}, "to the server"),
        ({"reply_to_message_id": "a\nforged"}, "malformed"),
        ({"message_id": "b" * 64}, "malformed"),
        ({"message_id": ""}, "malformed"),
        ({"created_at": math.nan}, "malformed"),
        ({"created_at": math.inf}, "malformed"),
        ({"ttl": math.nan}, "malformed"),
        ({"ttl": -1.0}, "malformed"),
        ({"message_type": "query\nforged"}, "malformed"),
        ({"group_id": "\x1b[2J"}, "malformed"),
        ({"seconds": math.nan}, "malformed"),
        ({"seconds": -1.0}, "malformed"),
        ({"times": 2}, "not one"),
        ({"times": 0}, "not one"),
        ({"tree": ObjectTree(object_id="b" * 64)}, "malformed"),
        ({"tree": ObjectTree(object_id=NAME, children=[ObjectTree()])}, "malformed"),
        (
            {"tree": ObjectTree(object_id=NAME, children=[ObjectTree(object_id=PART)] * 16)},
            "malformed",
        ),
    ],
)
def test_anything_else_does_not(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        require_reply(announced(**changed))
    assert refused.value.status == 403


def test_content_comes_in_objects() -> None:
    request = PushMessagesRequest.FromString(announced())
    request.messages_list[0].content.items.add(key="share")
    with pytest.raises(Refused, match="malformed"):
        require_reply(request.SerializeToString())


def test_who_is_the_server_is_none_of_its_devices() -> None:
    """Node 1 is the SuperLink; were it ever a device's number, it would speak for the server."""
    request = PushMessagesRequest.FromString(announced(src_node_id=1))
    request.node.node_id = 1
    with pytest.raises(Refused, match="another's name"):
        require_reply(request.SerializeToString())


@pytest.mark.parametrize(
    ("require", "kind", "field"),
    [
        (require_pushed, PushObjectRequest, "object_id"),
        (require_pulled, PullObjectRequest, "object_id"),
        (require_confirmed, ConfirmMessageReceivedRequest, "message_object_id"),
    ],
)
def test_an_object_is_named_by_its_digest(
    require: Callable[[bytes], None], kind: Any, field: str
) -> None:
    require(kind(**{field: NAME}).SerializeToString())
    for name in ("", "a" * 63, f"{NAME}\n", "A" * 64, "a\n2026-01-01 up ready"):
        with pytest.raises(Refused, match="not an object's name"):
            require(kind(**{field: name}).SerializeToString())


@pytest.mark.parametrize(
    "require", [require_reply, require_pushed, require_pulled, require_confirmed]
)
def test_what_is_no_message(require: Callable[[bytes], None]) -> None:
    for body in (b"\xff", b"\x0a\xff\xff"):
        with pytest.raises(Refused, match="malformed body") as refused:
            require(body)
        assert refused.value.status == 400
