"""`privity-client stop`: end the process that takes part in rounds."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import time
from typing import Any

from client.vault.home import home
from common.console.say import say

PATIENCE_S = 30.0


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("stop", help="end the background process")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """What it was doing is finished when it is started again, or counts as a dropout."""
    from client.vault.ownership import owner
    from client.vault.vault import LOCK

    lock = home(options) / LOCK
    process = owner(lock)
    if not process:
        say("Nothing is running.")
        return 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)
    end = time.monotonic() + PATIENCE_S
    while owner(lock) == process:
        if time.monotonic() > end:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
    say(f"Process {process} has ended.")
    return 0
