"""The line between the gateway and the enrolment desk: a UNIX socket in the operator's folder.

The gateway faces the internet; the desk holds the key that certifies devices. So they are two
processes, and all that passes between them is a request as it came, and what to answer. The desk
checks the invite itself: a gateway that somebody took over can enrol nobody without one.

    request = blob(what) ‖ blob(source) ‖ blob(body)
    reply = u64 status ‖ blob(body) ‖ blob(reason)
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import socketserver
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from common.enrolment.protocol import MAX_BYTES, Refusal
from common.errors import DecodeError, InputError
from common.secagg.wire import Reader, blob, u64
from server.enrolment.desk import Reply

log = logging.getLogger("privity.server")

Answer = Callable[[str, bytes, str], Reply]
SIZE_BYTES = 8
MAX_MESSAGE = MAX_BYTES + 4096
PATIENCE_S = 60.0
MAX_PATH = 100  # the system's bound is 108 on Linux, 104 on macOS
_AWAY = Refusal("The server cannot enrol anybody now.", "Try the same again in a minute.")


def call(path: Path, what: str, body: bytes, source: str) -> Reply:
    """Ask the desk that listens at `path`; 503 where none does. May block."""
    with contextlib.suppress(OSError, DecodeError), socket.socket(socket.AF_UNIX) as line:
        line.settimeout(PATIENCE_S)
        with _address(path) as address:
            line.connect(address)
        line.sendall(_framed(blob(what.encode()) + blob(source.encode()) + blob(body)))
        reader = Reader(_received(line), "Desk's reply")
        reply = Reply(reader.u64(), reader.blob(), reader.blob().decode())
        reader.end()
        return reply
    return Reply(503, _AWAY.encode(), "the enrolment desk does not answer")


class DeskServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers calls at `path`, which only this system's user can reach.

    Raises:
        InputError: The path is too long for a socket on this system.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path, answer: Answer) -> None:
        self.answer = answer
        path.unlink(missing_ok=True)  # of one that was killed; `up` sees to it that there is one
        with _address(path) as address:
            super().__init__(address, _Call)
        path.chmod(0o600)
        self._path, self._mark = path, path.stat().st_ino

    def server_close(self) -> None:
        """Stop listening. A socket that another desk has put there meanwhile stays."""
        super().server_close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._mark:
                self._path.unlink()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Say the kind of an unforeseen error; its text could quote what was asked."""
        log.error("a call failed: %s", type(sys.exception()).__name__)


class _Call(socketserver.BaseRequestHandler):
    """One request."""

    def handle(self) -> None:
        self.request.settimeout(PATIENCE_S)
        with contextlib.suppress(OSError, DecodeError):
            reader = Reader(_received(self.request), "Call to the desk")
            what, source, body = reader.blob().decode(), reader.blob().decode(), reader.blob()
            reader.end()
            assert isinstance(self.server, DeskServer)
            reply = self.server.answer(what, body, source)
            answer = u64(reply.status) + blob(reply.body) + blob(reply.reason.encode())
            self.request.sendall(_framed(answer))


def _framed(message: bytes) -> bytes:
    return u64(len(message)) + message


def _received(line: socket.socket) -> bytes:
    size = int.from_bytes(_exactly(line, SIZE_BYTES), "big")
    if size > MAX_MESSAGE:
        raise DecodeError(f"{size} bytes are more than the {MAX_MESSAGE} of a call.")
    return _exactly(line, size)


def _exactly(line: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        if not (more := line.recv(size - len(found))):
            raise DecodeError("The line was closed within a message.")
        found += more
    return bytes(found)


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """A spelling of the path that fits a socket's address."""
    if len(os.fsencode(path)) <= MAX_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        if not Path(f"/proc/self/fd/{folder}").exists():
            problem = f"{path} is too long for a socket."
            raise InputError(problem, f"Use a folder whose path has fewer than {MAX_PATH} letters.")
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
