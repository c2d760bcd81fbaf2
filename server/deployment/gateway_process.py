"""The gateway as a process of its own: `python -m server.deployment.gateway_process DIR`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from common.enrolment.offer import Offer
from common.errors import InputError, PrivityError
from common.system import quiet
from common.system.signals import ending
from server.deployment import figures
from server.deployment.place import Place
from server.deployment.superlink import flower_place
from server.enrolment.enrolment import KnownNodes
from server.enrolment.line import call
from server.gateway.connection import Services
from server.gateway.front import Gateway
from server.gateway.upstream import Upstream

FIGURES_EVERY_S = 2.0
log = logging.getLogger("privity.gateway")


@dataclass(slots=True)
class Offered:
    """What privity.toml asks of devices; a file that is damaged meanwhile changes nothing."""

    place: Place
    _read_at: int = 0
    _offer: bytes = b""

    def __call__(self) -> bytes:
        """The offer of now."""
        with contextlib.suppress(OSError, InputError):
            changed_at = self.place.settings_file.stat().st_mtime_ns
            if changed_at != self._read_at:
                name = self.place.settings().federation.name
                self._offer = Offer(name, self.place.run()).encode()
                self._read_at = changed_at
        return self._offer


async def serve(place: Place) -> None:
    """Until SIGTERM or SIGINT; its figures lie in `log/gateway.json` for who wants to look.

    SIGHUP: the certificate is another one.

    Raises:
        InputError: The address cannot be listened on, or a key is missing or damaged.
    """
    settings, flower = place.settings(), flower_place(place)
    known = KnownNodes(place.enrolment_file)
    desk = functools.partial(call, place.desk_socket)
    gateway = Gateway(
        place.server_pem,
        Services(place.authorities().encode(), known.is_known, desk, Offered(place)),
        Upstream(
            f"https://{flower.address}",
            place.ca_certificate.read_bytes(),
            settings.limits.upstream_s,
        ),
        settings.limits,
    )
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    for signum in ending():
        loop.add_signal_handler(signum, ended.set)
    loop.add_signal_handler(signal.SIGHUP, gateway.reload_certificate)
    host, port = await gateway.start(settings.gateway.host, settings.gateway.port)
    log.info("listening on %s port %d", host, port)
    while not ended.is_set():
        figures.keep(place.log / figures.GATEWAY, {"host": host, "port": port, **gateway.figures()})
        try:
            await asyncio.wait_for(ended.wait(), FIGURES_EVERY_S)
        except TimeoutError:
            continue
    await gateway.close()
    (place.log / figures.GATEWAY).unlink(missing_ok=True)


if __name__ == "__main__":
    quiet.log_lines()
    try:
        asyncio.run(serve(Place(Path(sys.argv[1]))))
    except PrivityError as error:
        log.error("%s", error)
        sys.exit(error.exit_code)
