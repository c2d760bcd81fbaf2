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


@contextmanager
def unseen_file(content: bytes, *, anonymous: bool = hasattr(os, "memfd_create")) -> Iterator[str]:
    """A path under which this process can read the content, inside the block only."""
    if anonymous:
        descriptor = os.memfd_create("adapter", os.MFD_CLOEXEC)
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as stream:
                stream.write(content)
            yield f"/proc/self/fd/{descriptor}"
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
