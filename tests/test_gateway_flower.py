"""The gateway in front of a real SuperLink, driven by Flower's own connection."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes
from flwr.supernode.fleet_http_connection import http_request_response

from client.joining import join
from common.errors import PrivityError
from server import place
from server.enrolment_desk import Desk
from server.gateway.connection import Services
from server.gateway.front import Gateway
from server.gateway.limits import Limits
from server.gateway.upstream import Upstream
from server.nodes import Nodes

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


@pytest.fixture
def superlink(tmp_path: Path) -> Iterator[tuple[place.Place, int]]:
    made = place.create(tmp_path / "ours")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        "flower-superlink", "--host", "127.0.0.1", "--port", str(port),
        "--ssl-ca-certfile", str(made.ca_certificate),
        "--ssl-certfile", str(made.server_certificate), "--ssl-keyfile", str(made.server_key),
        "--enable-supernode-auth", "--database", str(made.superlink_file),
        "--isolation", "process", "--disable-runtime-dependency-installation",
    ]  # fmt: skip
    environment = os.environ | QUIET | {"FLWR_HOME": str(tmp_path / "flower")}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            yield made, port
        finally:
            process.terminate()
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
    ca_pem = made.ca_certificate.read_bytes()
    nodes = Nodes(f"127.0.0.1:{port}", ca_pem)

    spare = public_key_to_bytes(generate_key_pairs()[1])
    member = registered(nodes, spare)
    assert nodes.register(spare) == member
    for _ in range(2):
        nodes.unregister(member)
    with pytest.raises(PrivityError, match="does not register"):
        nodes.register(spare)

    enrolment = made.enrolment()
    desk = Desk(enrolment, made.authority(), "Ours", nodes.register, nodes.unregister)
    services = Services(ca_pem, enrolment.is_known, desk.enrol, desk.leave)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def begin() -> tuple[Gateway, int]:
        upstream = Upstream(f"https://127.0.0.1:{port}", ca_pem, 30)
        certificate, key = made.server_certificate, made.server_key
        gateway = Gateway(certificate, key, services, upstream, Limits())
        return gateway, (await gateway.start("127.0.0.1", 0))[1]

    gateway, public = asyncio.run_coroutine_threadsafe(begin(), loop).result(30)
    try:
        address, node = f"127.0.0.1:{public}", generate_key_pairs()
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
    finally:
        asyncio.run_coroutine_threadsafe(gateway.close(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
