"""One owner of a vault at a time: an flock that ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from common.errors import InputError, disk_is_full

PATIENCE_S = 0.3  # somebody may be looking at the lock


class Lock:
    """Hold `path` locked until `release`; it then says which process holds it.

    Raises:
        InputError: When another process holds it, naming its process id, or it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            self._take(path)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(self._descriptor)
            raise _unusable(path, error) from error

    def _take(self, path: Path) -> None:
        import fcntl

        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    os.close(self._descriptor)
                    raise InputError(_in_use(path), "Wait for it, or stop it.") from None
                time.sleep(PATIENCE_S / 10)

    def release(self) -> None:
        """Let others have it."""
        os.close(self._descriptor)


def owner(path: Path) -> int | None:
    """Which process holds the lock at `path`; None for none. 0: one that has not said yet."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _noted(path)
    finally:
        os.close(descriptor)
    return None


def _unusable(path: Path, error: OSError) -> InputError:
    hint = "Make room on the disk." if disk_is_full(error) else ""
    return InputError(f"{path} cannot be used: {error.strerror}.", hint)


def _in_use(path: Path) -> str:
    return f"{path.parent} is in use by process {_noted(path) or 'unknown'}."


def _noted(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return 0
