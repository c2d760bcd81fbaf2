"""Starting and ending the processes of a federation that is measured."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from typing import Any

GRACE_S = 10.0


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ended(process: subprocess.Popen[Any]) -> None:
    """End a process and its group, with force if it takes longer than ten seconds."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
            if signum is signal.SIGKILL:
                return
