"""Progress bars on stderr, shown only to a terminal and only where something takes a while."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def steps(title: str, total: int, *, show: bool = True) -> Iterator[Callable[[], None]]:
    """A bar of `total` steps; the yielded function ticks one off.

    Without a terminal the title is printed once, so that a log tells what took the time.
    """
    if not show:
        yield lambda: None
        return
    if not sys.stderr.isatty():
        print(f"{title} …", file=sys.stderr, flush=True)  # noqa: T201
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)
