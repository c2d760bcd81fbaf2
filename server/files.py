"""Files that are there whole or not at all, also after the power went."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write(target: Path, content: str) -> None:
    """Put text into place."""

    def save(path: Path) -> None:
        with path.open("w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            sync(stream.fileno())

    into_place(target, save)


def into_place(target: Path, save: Callable[[Path], None]) -> None:
    """Put into place what `save` writes to the path it is given, and has synchronised."""
    scratch = scratch_of(target)
    save(scratch)
    scratch.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        sync(folder)
    finally:
        os.close(folder)


def scratch_of(target: Path) -> Path:
    """Where a file is made before it is put into place."""
    return target.with_suffix(".partial")


def reserve(target: Path, size: int) -> None:
    """Take the room for a file of `size` bytes that is to be put into place later.

    `save` then writes over it. Taking it again is no error.

    Raises:
        OSError: There is not enough; none is taken.
    """
    scratch = scratch_of(target)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        scratch.unlink()
        raise
    finally:
        os.close(descriptor)


def has_room(folder: Path, size: int) -> bool:
    """Whether its disk has so many bytes that are free for us."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize >= size


def sync(descriptor: int) -> None:
    """Wait until it is on disk."""
    os.fsync(descriptor)
