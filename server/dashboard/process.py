"""The dashboard as a process of its own: `python -m server.dashboard.process DIR`.

Whatever happens to it, the rounds go on: it only reads, and `up` starts it again.
"""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path

import uvicorn

from common.errors import InputError, PrivityError
from common.system import quiet
from server.dashboard.serving import dashboard, is_loopback
from server.dashboard.situation import Observer
from server.deployment.place import Place
from server.deployment.superlink import Control, flower_place

CONNECTIONS = 64
log = logging.getLogger("privity.dashboard")


def serve(place: Place) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        InputError: The address cannot be listened on.
    """
    settings = place.settings().dashboard
    observer = Observer(place, Control(flower_place(place)).online)
    listener = _listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    log.info("http://%s:%d/", f"[{host}]" if ":" in host else host, port)
    if not is_loopback(settings.host):
        log.warning("everybody who reaches %s can read it", settings.host)
    config = uvicorn.Config(
        dashboard(observer.look, settings.host), log_config=None, log_level="warning",
        access_log=False, server_header=False, lifespan="off", http="h11", loop="asyncio",
        ws="none", proxy_headers=False, limit_concurrency=CONNECTIONS, timeout_keep_alive=5,
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    uvicorn.Server(config).run([listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        problem = f"Nothing can listen on {host} port {port}: {error.strerror or error}."
        raise InputError(problem, "Change host or port under [dashboard].") from None
    return listener


if __name__ == "__main__":
    quiet.log_lines()
    try:
        serve(Place(Path(sys.argv[1])))
    except PrivityError as error:
        log.error("%s", error)
        sys.exit(error.exit_code)
