"""What happens in rounds, for the operator's log.

Flower throws away what a ServerApp prints. So the process that makes rounds appends its lines to a
file, and `up` carries them over to the one log of the deployment.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FILE = "rounds.log"
NAME = "privity.server"
FAILED = "no rounds for now: "
MAX_BYTES = 1_000_000  # of lines that were carried over, before the file starts anew


@contextmanager
def written(folder: Path) -> Iterator[None]:
    """Inside the block this process's lines about rounds are appended to the file in `folder`.

    So is, in one line, what ends the block before its end.
    """
    handler = logging.FileHandler(folder / FILE, encoding="utf-8")
    log = logging.getLogger(NAME)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    except Exception as error:
        log.error("%s%s: %s", FAILED, type(error).__name__, error)
        raise
    finally:
        log.removeHandler(handler)
        handler.close()


@dataclass(slots=True)
class Follower:
    """Reads the lines of the file in `folder` that are new since `_position`."""

    folder: Path
    _position: int = 0

    @classmethod
    def from_now(cls, folder: Path) -> Follower:
        """Earlier lines are passed over, and dropped when there are many."""
        file = folder / FILE
        if file.exists() and file.stat().st_size > MAX_BYTES:
            file.unlink()
        return cls(folder, file.stat().st_size if file.exists() else 0)

    def lines(self) -> list[str]:
        """The whole lines that were written since the last call."""
        try:
            with (self.folder / FILE).open("rb") as stream:
                stream.seek(self._position)
                new = stream.read()
        except FileNotFoundError:
            return []
        whole = new[: new.rfind(b"\n") + 1]
        self._position += len(whole)
        return whole.decode("utf-8", errors="replace").splitlines()
