"""Devices' replies as they come in, none kept waiting by another.

Flower's own `pull_messages` reads one reply after another and waits up to three minutes for one
whose sender went silent in the middle of it. Here each look takes what is there; a reply that
never becomes whole is one that never came. Who sent it and what it answers is taken from the
envelope, which the SuperLink checked, and not from the content, which the sender wrote. All
undocumented names are of flwr 1.41, `superlink/grid/http_grid.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.message_pb2 import Message as Envelope
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
)
from flwr.superlink.grid.http_grid import HttpGrid

log = logging.getLogger("privity.server")


@dataclass(slots=True)
class _Begun:
    """A reply whose objects are being collected."""

    envelope: Envelope
    missing: list[str]
    objects: dict[str, bytes] = field(default_factory=dict)


class Replies:
    """The replies to messages that were pushed to `grid`."""

    def __init__(self, grid: HttpGrid) -> None:
        self._grid = grid
        self._begun: dict[str, _Begun] = {}  # by the message that is answered
        self._pull: Callable[[str], bytes] = make_pull_object_fn_protobuf(
            grid._runtime_client.PullObject, grid.node, grid.run.run_id
        )

    def look(self, wanted: set[str]) -> list[Message]:
        """Those to the messages named that are whole now, each once; does not wait."""
        self._begun = {name: one for name, one in self._begun.items() if name in wanted}
        self._begin(wanted - self._begun.keys())
        found = [self._finish(reply) for reply in self._begun.values()]
        return [message for message in found if message is not None]

    def _begin(self, wanted: set[str]) -> None:
        if not wanted:
            return
        answer = self._grid._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=wanted))
        for envelope, tree in zip(answer.messages_list, answer.message_object_trees, strict=True):
            objects = [one.object_id for one in iterate_object_tree(tree)]
            self._begun[envelope.metadata.reply_to_message_id] = _Begun(envelope, objects)

    def _finish(self, reply: _Begun) -> Message | None:
        try:
            while reply.missing:
                reply.objects[reply.missing[-1]] = self._pull(reply.missing[-1])
                reply.missing.pop()
        except ObjectUnavailableError:
            return None
        except ObjectPullError:
            reply.missing.clear()  # it never will be whole
        if not reply.objects:
            return None
        objects, reply.objects = reply.objects, {}
        return self._read(reply.envelope, objects)

    def _read(self, envelope: Envelope, objects: dict[str, bytes]) -> Message | None:
        outside = envelope.metadata
        self._grid._runtime_client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(
                node=self._grid.node,
                run_id=self._grid.run.run_id,
                message_object_id=outside.message_id,
            )
        )
        try:
            message = inflate_object_from_contents(outside.message_id, objects)
            if not isinstance(message, Message):
                raise TypeError(type(message).__name__)
        except Exception as error:  # whatever a sender may have made of it
            log.warning("a reply could not be read: %s", type(error).__name__)
            return None
        message.metadata.__dict__.update(
            _message_id=outside.message_id,
            _src_node_id=outside.src_node_id,
            _reply_to_message_id=outside.reply_to_message_id,
        )
        return message
