"""`privity-client start`: take part in rounds, in the background or here."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from client.vault.home import ask_once, home, open_vault
from common.console.say import say, say_aside
from common.models.wheels import cache_dir
from common.system.processes import NOWHERE, PRIVATE, environment, python

LOG = "client.log"
SLOW_S = 10.0  # then a person is told what is waited for


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("start", help="take part in rounds, in the background")
    parser.add_argument("--foreground", action="store_true", help="stay here; Ctrl-C ends it")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Start the process, or be it."""
    return _serve(options) if options.foreground else begin(options)


def _serve(options: argparse.Namespace) -> int:
    with open_vault(options, exclusive=True) as vault:
        from client.federation.service import Service
        from common.system.signals import ending

        ended = threading.Event()
        for one in ending():
            signal.signal(one, lambda *_: ended.set())
        Service(vault, ended).run()
    return 0


def begin(options: argparse.Namespace) -> int:
    """Start a process of its own, which gets the passphrase through a pipe."""
    from client.federation.membership import membership
    from client.vault.ownership import owner
    from client.vault.vault import LOCK
    from common.errors import InputError, PrivityError

    folder = home(options)
    if running := owner(folder / LOCK):
        raise InputError(f"{folder} is in use by process {running}.", "`privity-client stop`.")
    passphrase = ask_once(options)
    with open_vault(options) as vault:  # a wrong passphrase or no membership is said here
        name = membership(vault.store).federation
    process = _detached(folder, passphrase)
    began, said = time.monotonic(), False
    while owner(folder / LOCK) != process.pid:  # however slow it is, as long as it lives
        if process.poll() is not None:
            raise PrivityError("The background process did not start.", f"See {folder / LOG}.")
        if not said and time.monotonic() - began > SLOW_S:
            said = True
            say_aside("Starting takes long; Ctrl-C ends the waiting alone.")
        time.sleep(0.05)
    say(f"Taking part in {name!r}, process {process.pid}.")
    return 0


def _detached(folder: Path, passphrase: str) -> subprocess.Popen[bytes]:
    command = python("client", "--home", str(folder))
    descriptors = []
    if passphrase:
        descriptors = [_pipe(passphrase)]
        command += ["--passphrase-fd", str(descriptors[0])]
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(  # noqa: S603
            [*command, "start", "--foreground"],
            cwd=NOWHERE,
            env=environment({"PRIVITY_CACHE": str(cache_dir().absolute())}),
            umask=PRIVATE,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=descriptors,
            start_new_session=True,
        )
    finally:
        for descriptor in (log, *descriptors):
            os.close(descriptor)


def _pipe(passphrase: str) -> int:
    """A descriptor from which the passphrase can be read once."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as stream:
        stream.write(passphrase.encode("utf-8", "surrogateescape") + b"\n")
    return reading
