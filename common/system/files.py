"""Atomic, durable file writes.

A file is written to a scratch file in the same folder, flushed to the disk, renamed over its
target, and then the folder is flushed too (Pillai et al., OSDI 2014: without the last step a power
cut can undo the rename). From this follows, for every function here that puts something in place:

- A reader sees the old content or the new one, never a mix, at any moment.
- What raises before the rename, such as a full disk, leaves the old content and no scratch file.
- A process that is killed leaves the old content or the new one, and at most a scratch file
  `NAME.NUMBER.partial` beside it. Nothing reads it, and it can be deleted.
- A power cut leaves the same. After the function has returned, it leaves the new content.
- Of two writers the last one wins: the number is the thread's, so each has its own scratch file.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PRIVATE, PRIVATE_FOLDER = 0o600, 0o700  # for the owner alone
ORDINARY, ORDINARY_FOLDER = 0o666, 0o777  # as the user's umask has it


def write(
    target: Path, content: str | bytes, *, mode: int = ORDINARY, durable: bool = True
) -> None:
    """Put a file in place; text is UTF-8.

    Args:
        mode: Permissions, less the umask's; they hold from the first byte on.
        durable: Survive a power cut, for two flushes: some 12 ms on an ordinary disk, against 0.05.
            Without, a power cut soon after can also leave an empty file. For what is written again
            within seconds, or can be computed again.

    Raises:
        OSError: The file is as it was; or it is in place, and only its folder could not be flushed.
    """
    with _scratch_file(target, content, mode, durable) as scratch:
        _move(scratch, target, durable=durable)


def create(target: Path, content: bytes, *, mode: int = ORDINARY) -> bool:
    """Put a file in place where there is none; False, and nothing is changed, where there is one.

    Of several processes that try at once, one gets True.
    """
    with _scratch_file(target, content, mode, durable=True) as scratch:
        try:
            target.hardlink_to(scratch)
        except FileExistsError:
            return False
    sync_folder(target.parent)
    return True


@contextmanager
def new_folder(
    target: Path, *, mode: int = ORDINARY_FOLDER, first_wins: bool = False
) -> Iterator[Path]:
    """A scratch folder that takes the place of `target` once the block has filled it.

    Missing parents are made. A block that raises leaves neither folder.

    Args:
        mode: Permissions of the folder, less the umask's.
        first_wins: Whoever fills a folder with this content first is believed: their folder stays.

    Raises:
        OSError: `target` is there already, and no empty folder.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch(target)
    shutil.rmtree(scratch, ignore_errors=True)  # left by a killed process
    try:
        scratch.mkdir(mode=mode)
        yield scratch
        _sync_tree(scratch)
        try:
            _move(scratch, target)
        except OSError:
            if not (first_wins and target.exists()):
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def is_taken(target: Path) -> bool:
    """Whether `new_folder` would refuse: something is there, and it is no empty folder."""
    try:
        return target.is_symlink() or (target.exists() and any(target.iterdir()))
    except NotADirectoryError:
        return True


def reserve(target: Path, size: int) -> None:
    """Take the room on the disk for a file that `write_reserved` puts in place later.

    Taking it again is no error.

    Args:
        size: At most what will be written, in bytes.

    Raises:
        OSError: There is not enough; none is taken.
    """
    descriptor = os.open(_reserved(target), os.O_WRONLY | os.O_CREAT, ORDINARY)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        release(target)
        raise
    finally:
        os.close(descriptor)


def release(target: Path) -> None:
    """Give back what `reserve` took, if anything."""
    _reserved(target).unlink(missing_ok=True)


def write_reserved(target: Path, save: Callable[[IO[bytes]], object]) -> None:
    """Put in place what `save` writes, in the room that was reserved for it.

    Room that was not needed is given back. What raises leaves the room taken, for another try.
    """
    scratch = _reserved(target)
    with scratch.open("r+b" if scratch.exists() else "wb") as stream:
        save(stream)
        stream.truncate()
        stream.flush()
        os.fsync(stream.fileno())
    _move(scratch, target)


def has_room(folder: Path, size: int) -> bool:
    """Whether its disk has so many bytes that are free for us."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize >= size


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _scratch_file(target: Path, content: str | bytes, mode: int, durable: bool) -> Iterator[Path]:
    """A file with this content, which is gone after the block unless the block renamed it."""
    raw = content.encode() if isinstance(content, str) else content
    scratch = _scratch(target)
    scratch.unlink(missing_ok=True)  # left by a killed process, with permissions of its own
    try:
        # O_EXCL: nobody else's file is written into, and no link is followed.
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(raw)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        yield scratch
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def _move(scratch: Path, target: Path, *, durable: bool = True) -> None:
    scratch.replace(target)
    if durable:
        sync_folder(target.parent)


def _scratch(target: Path) -> Path:
    """Its own for each thread of each process that writes here; named so that no pattern fits."""
    return target.with_name(f"{target.name}.{threading.get_native_id()}.partial")


def _reserved(target: Path) -> Path:
    """Where room is taken: one place for all processes, since one takes it and another fills it."""
    return target.with_suffix(".partial")


def _sync_tree(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        elif file.is_dir():
            sync_folder(file)
    sync_folder(folder)
