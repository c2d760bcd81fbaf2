"""Flower's part of a deployment: its processes, and its Control API on loopback.

The SuperLink keeps its state in SQLite and serves all of its APIs on one loopback port; the gateway
is what devices reach. The superexec starts the installed ServerApp: the bundle that a run needs
holds two component names and the settings, and no code. All use of Flower's undocumented names on
the server is in this file and in `cohort.py` (flwr 1.41: `cli/run/run.py`, `cli/build.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    StartRunRequest,
    StopRunRequest,
)
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor

from common.errors import PrivityError
from common.rounds.bundle import bundle, bundle_hash
from common.settings import Settings
from common.system import quiet
from common.system.processes import environment, script
from server.deployment.place import Place
from server.enrolment.nodes import DirectControl, Nodes

OFFLINE = {"HF_HUB_OFFLINE": "1"}
ONLINE = "online"


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files of the SuperLink's own TLS; `server` holds certificate and key."""

    ca: Path
    server: Path


@dataclass(frozen=True, slots=True)
class FlowerPlace:
    """Where Flower runs: a loopback port, its database and its home."""

    port: int
    database: Path
    home: Path
    certificates: Certificates

    @property
    def address(self) -> str:
        """`host:port` of all of Flower's APIs."""
        return f"127.0.0.1:{self.port}"

    @property
    def database_url(self) -> str:
        """The database as Flower passes it on to SQLAlchemy, with `?` and `%` escaped."""
        return f"sqlite:///{quote(str(self.database))}"

    def superlink(self) -> list[str]:
        """The command of the SuperLink."""
        tls = self.certificates
        return script(
            "flower-superlink", "--host", "127.0.0.1", "--port", str(self.port),
            "--ssl-ca-certfile", str(tls.ca), "--ssl-certfile", str(tls.server),
            "--ssl-keyfile", str(tls.server), "--isolation", "process",
            "--enable-supernode-auth", "--database", self.database_url,
            "--disable-runtime-dependency-installation",
        )  # fmt: skip

    def superexec(self) -> list[str]:
        """The command of what starts the ServerApp."""
        return script(
            "flower-superexec", "--runtime-api-address", self.address,
            "--root-certificates", str(self.certificates.ca),
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        """The processes' environment: no telemetry, no look-ups, nothing installed at run time."""
        return environment(quiet.flower(self.home) | OFFLINE)


def nodes_of(place: Place) -> Nodes:
    """Who may connect to the SuperLink in an operator's folder."""
    return Nodes(flower_place(place).address, place.ca_certificate.read_bytes())


def is_up(place: Place) -> bool:
    """Whether the federation's SuperLink answers."""
    try:
        control = Control(flower_place(place))
    except OSError:
        return False
    try:
        control.online()
    except PrivityError:
        return False
    finally:
        control.close()
    return True


def flower_place(place: Place) -> FlowerPlace:
    """Where Flower runs in an operator's folder."""
    tls = Certificates(place.ca_certificate, place.server_pem)
    port = place.settings().gateway.superlink_port
    return FlowerPlace(port, place.superlink_file, place.folder / "flower", tls)


class Control:
    """Flower's Control API. Every call raises `PrivityError` when the SuperLink does not answer."""

    def __init__(self, place: FlowerPlace) -> None:
        version = RuntimeVersionHttpInterceptor(component_name="CLI")
        self._client = DirectControl(place.address, place.certificates.ca.read_bytes(), version)

    def online(self) -> list[int]:
        """Ids of the nodes that are connected."""
        with _translated():
            nodes = self._client.ListNodes(ListNodesRequest()).nodes_info
        return sorted(node.node_id for node in nodes if node.status == ONLINE)

    def start(self, settings: Settings) -> int:
        """Start a run with these settings; its number."""
        request = StartRunRequest(
            fab=fab_to_proto(Fab(bundle_hash(), bundle(), {})),
            override_config=user_config_to_proto(dict(settings.to_dict())),
        )
        with _translated():
            answer = self._client.StartRun(request)
        if not answer.HasField("run_id"):
            raise PrivityError("The SuperLink started no run.")
        return int(answer.run_id)

    def status(self, run: int) -> str:
        """A run's status in Flower's words, such as `running` or `finished:completed`."""
        with _translated():
            runs = self._client.ListRuns(ListRunsRequest(run_id=run)).run_dict
        status = runs[run].status
        return f"{status.status}:{status.sub_status}" if status.sub_status else str(status.status)

    def stop(self, run: int) -> None:
        """Stop a run; one that has ended stays as it is."""
        with _translated():
            self._client.StopRun(StopRunRequest(run_id=run))

    def close(self) -> None:
        """End the connection."""
        self._client.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        words = error.response.text[:300]
        raise PrivityError(f"Flower refused: {words}") from None
    except httpx.TransportError as error:
        raise PrivityError(f"The SuperLink does not answer ({type(error).__name__}).") from None
