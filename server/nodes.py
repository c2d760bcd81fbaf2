"""Devices as Flower's nodes, through the SuperLink's Control interface on loopback.

Both calls can be repeated after a crash: registering a key that is registered answers with its
number, unregistering a node that is gone is no error.
"""

from __future__ import annotations

import httpx
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    RegisterNodeRequest,
    UnregisterNodeRequest,
)
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.constant import NodeStatus
from flwr.supercore.control.control_http_client import ControlHttpClient

from common.errors import PrivityError


class Nodes:
    """The SuperLink at `address` (host:port), whose certificate `ca_pem` must have signed."""

    def __init__(self, address: str, ca_pem: bytes) -> None:
        self._address, self._ca_pem = address, ca_pem

    def register(self, node_key: bytes) -> int:
        """The id of the node with this key, registered now or before.

        Raises:
            PrivityError: The SuperLink is not there or refuses; or the node was removed.
        """
        with self._control() as control:
            try:
                return control.RegisterNode(RegisterNodeRequest(public_key=node_key)).node_id
            except httpx.HTTPStatusError:
                known = [one for one in _nodes(control) if one.public_key == node_key]
                if len(known) == 1 and known[0].status != NodeStatus.UNREGISTERED:
                    return known[0].node_id
                raise PrivityError("Flower does not register this node key.") from None
            except httpx.HTTPError as error:
                raise _away(error) from None

    def unregister(self, member: int) -> None:
        """Remove a node.

        Raises:
            PrivityError: The SuperLink is not there, or keeps the node.
        """
        with self._control() as control:
            try:
                control.UnregisterNode(UnregisterNodeRequest(node_id=member))
            except httpx.HTTPStatusError:
                kept = [one for one in _nodes(control) if one.node_id == member]
                if any(one.status != NodeStatus.UNREGISTERED for one in kept):
                    raise PrivityError(f"Flower does not unregister node {member}.") from None
            except httpx.HTTPError as error:
                raise _away(error) from None

    def _control(self) -> ControlHttpClient:
        return ControlHttpClient.from_server_address(self._address, False, self._ca_pem, [])


def _nodes(control: ControlHttpClient) -> list[NodeInfo]:
    try:
        return list(control.ListNodes(ListNodesRequest()).nodes_info)
    except httpx.HTTPError as error:
        raise _away(error) from None


def _away(error: httpx.HTTPError) -> PrivityError:
    problem = f"The SuperLink does not answer ({type(error).__name__})."
    return PrivityError(problem, "See the log for why it is down.")
