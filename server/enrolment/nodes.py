"""Devices as Flower's nodes, through the SuperLink's Control interface on loopback.

Both calls can be repeated after a crash: registering a key that is registered answers with its
number, unregistering a node that is gone is no error.
"""

from __future__ import annotations

import ssl

import httpx
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    RegisterNodeRequest,
    UnregisterNodeRequest,
)
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.constant import NodeStatus
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.protobuf.client import ProtobufClientInterceptor

from common.errors import PrivityError

ANSWER_S = 30.0  # as Flower waits for one


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
        return DirectControl(self._address, self._ca_pem)


class DirectControl(ControlHttpClient):
    """Flower's client of the SuperLink on this machine, which no proxy has a part in.

    Flower's own begins with what the environment says of proxies, and ends there at one that it
    cannot use.

    Args:
        address: `host:port`.
        ca_pem: The authority that must have signed its certificate.
    """

    def __init__(
        self, address: str, ca_pem: bytes, *interceptors: ProtobufClientInterceptor
    ) -> None:
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trust.load_verify_locations(cadata=ca_pem.decode("ascii"))
        self._base_url, self._interceptors = f"https://{address}", interceptors
        self._retry_invoker = None
        self._client = httpx.Client(verify=trust, timeout=ANSWER_S, trust_env=False)


def _nodes(control: ControlHttpClient) -> list[NodeInfo]:
    try:
        return list(control.ListNodes(ListNodesRequest()).nodes_info)
    except httpx.HTTPError as error:
        raise _away(error) from None


def _away(error: httpx.HTTPError) -> PrivityError:
    problem = f"The SuperLink does not answer ({type(error).__name__})."
    return PrivityError(problem, "See the log for why it is down.")
