"""What a request says of itself, where Flower believes whoever is enrolled.

Flower checks that a request is from the node that it names, and not who the message in it is from:
one that is from the server, it hands to any device as the server's (flwr 1.41,
`superlink/servicer/fleet/fleet_handlers.py`). A number that is none it keeps, and fails on when
the reply is collected. The names of objects it writes into its log as they are.
"""

from __future__ import annotations

import math
import re
from typing import TypeVar

from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    Metadata,
    ObjectTree,
    PullObjectRequest,
    PushObjectRequest,
)
from google.protobuf.message import DecodeError, Message

from server.gateway.refusals import Refused

MAX_OBJECTS = 16  # of a reply: the message, its record of records, one record a leg
NAME = re.compile(r"[0-9a-f]{64}")  # SHA-256
Request = TypeVar("Request", bound=Message)


def require_nothing(body: bytes) -> None:
    """Check nothing: Flower checks every claim of this request."""


def require_reply(body: bytes) -> None:
    """Check `push-messages`: it must be one reply of the node itself to the server.

    Raises:
        Refused: It is anything else.
    """
    request = _decoded(PushMessagesRequest, body)
    if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
        raise Refused(403, "not one reply")
    message, tree = request.messages_list[0], request.message_object_trees[0]
    about = message.metadata
    if about.src_node_id != request.node.node_id or about.src_node_id == SUPERLINK_NODE_ID:
        raise Refused(403, "a message in another's name")
    if about.dst_node_id != SUPERLINK_NODE_ID or not about.reply_to_message_id:
        raise Refused(403, "not a reply to the server")
    lengths = all(map(_is_length, request.clientapp_runtime_list))
    if message.content.ByteSize() or not (_sound(about, tree) and lengths):  # content: in objects
        raise Refused(403, "malformed reply")


def require_pushed(body: bytes) -> None:
    """Check `push-object`.

    Raises:
        Refused: It names no object.
    """
    _require_name(_decoded(PushObjectRequest, body).object_id)


def require_pulled(body: bytes) -> None:
    """Check `pull-object`.

    Raises:
        Refused: It names no object.
    """
    _require_name(_decoded(PullObjectRequest, body).object_id)


def require_confirmed(body: bytes) -> None:
    """Check `confirm-message-received`.

    Raises:
        Refused: It names no message.
    """
    _require_name(_decoded(ConfirmMessageReceivedRequest, body).message_object_id)


def _decoded(kind: type[Request], body: bytes) -> Request:
    try:
        request: Request = kind.FromString(body)
    except DecodeError:
        raise Refused(400, "malformed body") from None
    return request


def _require_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise Refused(403, "not an object's name")


def _sound(about: Metadata, tree: ObjectTree) -> bool:
    names = _names(tree)
    well_named = all(map(NAME.fullmatch, (*names, about.message_id, about.reply_to_message_id)))
    timed = math.isfinite(about.created_at) and _is_length(about.ttl)
    plain = about.message_type.isprintable() and about.group_id.isprintable()
    whole = tree.object_id == about.message_id and len(names) <= MAX_OBJECTS
    return well_named and timed and plain and whole


def _names(tree: ObjectTree) -> list[str]:
    """The names of every object in a tree; protobuf bounds its depth."""
    return [tree.object_id, *(name for child in tree.children for name in _names(child))]


def _is_length(seconds: float) -> bool:
    return math.isfinite(seconds) and seconds >= 0
