"""Four addresses over HTTP, each for reading: `/`, `/health`, `/ready` and `/metrics`.

Only requests that name this machine are answered, unless the operator opened the port to others: a
page elsewhere whose host name is pointed at the loopback address gets nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from common.errors import PrivityError
from common.page.document import POLICY
from common.system import strict_json
from server.dashboard.metrics import CONTENT_TYPE, metrics
from server.dashboard.overview import page
from server.dashboard.situation import Situation
from server.registry.provenance import software

log = logging.getLogger("privity.dashboard")

OWN_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
HEADERS = {
    "Content-Security-Policy": f"{POLICY}; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Look = Callable[[], Situation]
Endpoint = Callable[[Request], Response]


def dashboard(look: Look, host: str) -> Starlette:
    """The ASGI application.

    Args:
        look: How the federation is now.
        host: The address that is listened on.
    """
    drawing = threading.Lock()  # matplotlib is not for several threads

    def health() -> Response:
        return _json({"alive": True, "version": software()})

    def ready() -> Response:
        now = look()
        parts = {name: part.running for name, part in now.parts.items()}
        answer = {"ready": not now.missing, "missing": now.missing, "parts": parts}
        return _json(answer, 503 if now.missing else 200)

    def figures() -> Response:
        return _answer(metrics(look()), CONTENT_TYPE)

    def overview() -> Response:
        with drawing:
            return _answer(page(look()).encode(), "text/html; charset=utf-8")

    open_to = None if not is_loopback(host) else OWN_NAMES | {host}
    paths = {"/": overview, "/health": health, "/ready": ready, "/metrics": figures}
    return Starlette(
        routes=[Route(path, _guarded(act, open_to), methods=["GET"]) for path, act in paths.items()]
    )


def _guarded(act: Callable[[], Response], names: frozenset[str] | None) -> Endpoint:
    def endpoint(request: Request) -> Response:
        if names is not None and _name(request) not in names:
            return _answer(b"", "text/plain", 421)
        try:
            return act()
        except (PrivityError, OSError, ValueError, TypeError, LookupError) as error:
            log.error("%s cannot be answered: %s", request.url.path, error)
            return _answer(b"The log says what is wrong.\n", "text/plain", 500)

    return endpoint


def _name(request: Request) -> str | None:
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _json(content: dict[str, object], status: int = 200) -> Response:
    return _answer(strict_json.encode(content).encode() + b"\n", "application/json", status)


def _answer(content: bytes, kind: str, status: int = 200) -> Response:
    return Response(content, status, {**HEADERS, "Content-Type": kind})
