"""A progress bar for what takes longer than a person likes to wait without one."""

from __future__ import annotations

import sys
import threading
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
