"""A personal adapter on its way into llama.cpp, which reads files only: never one on a disk.

On Linux the file is anonymous memory (`memfd_create`), open in this process alone and gone with
it. Elsewhere it is a file for its owner only, in a folder for its owner only, removed as soon as
it is loaded; where the system has a folder in memory for the user's running programs, there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import InputError

SOCKET = "unused.sock"
LONGEST_ADDRESS = 100  # of a Unix socket, in bytes; macOS has 103
DESCRIPTORS = Path("/proc/self/fd")


@contextmanager
def unseen_file(content: bytes, *, anonymous: bool = hasattr(os, "memfd_create")) -> Iterator[str]:
    """A path under which this process can read the content, inside the block only."""
    if anonymous:
        descriptor = os.memfd_create("adapter", os.MFD_CLOEXEC)
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as stream:
                stream.write(content)
            yield str(DESCRIPTORS / str(descriptor))
        finally:
            os.close(descriptor)
        return
    with private_folder() as folder:
        file = folder / "adapter.gguf"
        file.touch(0o600, exist_ok=False)
        file.write_bytes(content)
        yield str(file)


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder for its owner only, gone after the block; in memory where the system has one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    place = runtime if runtime and os.access(runtime, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="privity-", dir=place))  # mode 0700
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def socket_address(folder: Path) -> Iterator[str]:
    """An address for a Unix socket in `folder`, inside the block only.

    An address has at most 107 bytes on Linux, less than some folders' names. There the folder is
    opened and named by its descriptor.

    Raises:
        InputError: The folder's name is too long, and nothing can be done about it here.
    """
    if not DESCRIPTORS.is_dir():
        address = str(folder / SOCKET)
        if len(os.fsencode(address)) > LONGEST_ADDRESS:
            raise InputError(f"the folder for temporary files has a long name ({folder}).")
        yield address
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield str(DESCRIPTORS / str(descriptor) / SOCKET)
    finally:
        os.close(descriptor)
