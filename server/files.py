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
    scratch = target.with_suffix(".partial")
    save(scratch)
    scratch.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        sync(folder)
    finally:
        os.close(folder)


def sync(descriptor: int) -> None:
    """Wait until it is on disk."""
    os.fsync(descriptor)
