"""One log for all processes of a deployment: for people, or as JSON lines."""

from __future__ import annotations

import contextlib
import json
import threading
from datetime import UTC, datetime
from pathlib import Path

from common.console.say import say_aside

MAX_BYTES = 10_000_000  # then it is put aside, replacing what was put aside before


class Journal:
    """Writes to `file` and, on request, to the terminal.

    Args:
        as_json: JSON lines with `at` (UTC), `part` and `text`.
        aloud: Also on stderr.
    """

    def __init__(self, file: Path, *, as_json: bool = False, aloud: bool = True) -> None:
        self._file, self._as_json, self._aloud = file, as_json, aloud
        self._lock = threading.Lock()
        self._stream = file.open("a", encoding="utf-8", buffering=1)

    def write(self, part: str, text: str) -> None:
        """One line, from any thread; nothing in it moves a terminal's cursor."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._as_json:
            line = json.dumps({"at": at, "part": part, "text": text})
        else:
            line = f"{at} {part:<9} {_printable(text)}"
        with self._lock:
            with contextlib.suppress(OSError):  # a full disk: what is buffered follows later
                if self._stream.tell() > MAX_BYTES:
                    self._put_aside()
                self._stream.write(line + "\n")
            if self._aloud:
                with contextlib.suppress(OSError):
                    say_aside(line)

    def close(self) -> None:
        """End the log."""
        with contextlib.suppress(OSError):
            self._stream.close()

    def _put_aside(self) -> None:
        self._stream.close()
        self._file.replace(self._file.with_suffix(".old.log"))
        self._stream = self._file.open("a", encoding="utf-8", buffering=1)


def _printable(text: str) -> str:
    """The text with escapes in place of what a terminal would obey."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
