"""A progress bar for what takes longer than a person likes to wait without one."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE_S = 2.0


@contextmanager
def bar(title: str, total: int | None) -> Iterator[Callable[[], None]]:
    """Show a bar on stderr after two seconds, if that is a terminal; what is yielded advances it.

    Args:
        total: Steps there will be; None where nobody knows.
    """
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.markup import escape
    from rich.progress import Progress

    from common.console.tables import console
    from common.visible import visible

    progress = Progress(console=console(stderr=True), transient=True)
    task = progress.add_task(escape(visible(title)), total=total)
    timer = threading.Timer(PATIENCE_S, progress.start)
    timer.start()
    try:
        yield lambda: progress.advance(task)
    finally:
        timer.cancel()
        timer.join()
        progress.stop()


@contextmanager
def meter(title: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """Show how far a file was read, how many records a second, and the time left.

    Args:
        total: Bytes of the file.

    Yields:
        What is told the bytes read and the records found so far.
    """
    if not sys.stderr.isatty():
        yield lambda _read, _found: None
        return
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from common.console.tables import console
    from common.visible import visible

    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    progress = Progress(*columns, console=console(stderr=True), transient=True)
    task = progress.add_task(escape(visible(title)), total=max(total, 1), rate="")
    timer = threading.Timer(PATIENCE_S, progress.start)
    timer.start()
    began = time.monotonic()

    def tell(read: int, found: int) -> None:
        rate = found / max(time.monotonic() - began, 1e-6)
        progress.update(task, completed=read, rate=f"{rate:,.0f} records/s")

    try:
        yield tell
    finally:
        timer.cancel()
        timer.join()
        progress.stop()
