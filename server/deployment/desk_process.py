"""The enrolment desk as a process of its own: `python -m server.deployment.desk_process DIR`.

The only one of a deployment's processes that reads the enrolment authority's key. It answers the
gateway's calls, and signs the enrolment log whenever it has grown, also by `privity-server revoke`.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sqlite3
import sys
import threading
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.errors import PrivityError
from common.rounds.run_folder import keep_authority, keep_log, kept_log
from common.system import quiet
from common.system.signals import ending
from server.deployment.place import Place
from server.deployment.superlink import nodes_of
from server.enrolment.desk import Desk, Reply
from server.enrolment.enrolment import Enrolment
from server.enrolment.line import Answer, DeskServer

LOOK_S = 1.0
log = logging.getLogger("privity.desk")


class SignedLog:
    """Keeps the signed log in the federation's folder as long as the one in the database.

    What was signed once is never contradicted: a database that was restored from an older copy,
    also while the desk runs, first gets back the entries that it lacks.

    Raises:
        InputError: The database's log is another one than was signed.
    """

    def __init__(self, enrolment: Enrolment, authority: Ed25519PrivateKey, folder: Path) -> None:
        self._enrolment, self._authority, self._folder = enrolment, authority, folder
        self._lock, self._signed = threading.Lock(), kept_log(folder)
        if self._signed:
            enrolment.restore_log(self._signed)

    def keep_up(self) -> None:
        """Sign and write what is new.

        Raises:
            InputError: The database's log is another one than was signed.
        """
        with self._lock:
            signed = self._signed
            if signed and self._enrolment.log_size() == signed.size:
                return
            grown = self._enrolment.log(self._authority.public_key())
            if signed and not grown.begins_with(signed):
                self._enrolment.restore_log(signed)
                grown = self._enrolment.log(self._authority.public_key())
            grown.sign(self._authority)
            keep_log(self._folder, grown)
            self._signed = grown

    def answering(self, desk: Desk) -> Answer:
        """The desk's answers, with the log kept up around each."""

        def answer(what: str, body: bytes, source: str) -> Reply:
            self.keep_up()  # before anything is entered in a database that was just restored
            reply = desk.answer(what, body, source)
            self.keep_up()  # before the device is told, so that it is in the log it is shown next
            return reply

        return answer


def serve(place: Place) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        InputError: The key is missing or damaged, or the socket cannot be made.
    """
    authority = place.authority()
    keep_authority(place.federation, authority.public_key())
    enrolment, nodes = place.enrolment(), nodes_of(place)
    name = place.settings().federation.name
    desk = Desk(enrolment, authority, name, nodes.register, nodes.unregister)
    signed, ended = SignedLog(enrolment, authority, place.federation), threading.Event()
    signed.keep_up()
    for signum in ending():
        signal.signal(signum, lambda *_: ended.set())
    with DeskServer(place.desk_socket, signed.answering(desk)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        while not ended.wait(LOOK_S):
            with contextlib.suppress(OSError, sqlite3.OperationalError):  # no room, for example
                signed.keep_up()
        server.shutdown()


if __name__ == "__main__":
    quiet.log_lines()
    try:
        serve(Place(Path(sys.argv[1])))
    except PrivityError as error:
        log.error("%s", error)
        sys.exit(error.exit_code)
