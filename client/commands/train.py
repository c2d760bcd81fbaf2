"""`privity-client train`: fit the personal adapter, and keep it only if it helps."""

from __future__ import annotations

import argparse
from typing import Any

from client.vault.home import open_vault
from common.console.say import say


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("train", help="learn from your records, on this device alone")
    parser.add_argument(
        "--model", default="", metavar="NAME",
        help="base model, where no federation decides it (default: smollm2-135m)",
    )  # fmt: skip
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Nothing of this is ever sent."""
    from client.federation.examples import sets_key
    from client.learning import adapters
    from client.learning.personal import train

    with open_vault(options, exclusive=True) as vault:
        have = adapters.load(vault.store, options.model)
        with _watched() as progress:
            result = train(
                vault.records.all(),
                have.shared,
                have.settings,
                progress,
                key=sets_key(vault.store),
                kept=have.kept,
                current=have.personal,
            )
        if result.personal is not None:
            adapters.keep_personal(vault.store, have.settings, result.personal)
    several = result.task.several
    say(
        f"{result.heldout} held-out {several}, {result.task.unit}: {result.base_loss:.3f} base, "
        f"{result.before_loss:.3f} before, {result.after_loss:.3f} after learning from "
        f"{result.train} {several}."
    )
    say(result.reason)
    return 0


def _watched() -> Any:
    """A bar on the terminal, told what is being done, how much is done and how much there is."""
    import sys
    from contextlib import contextmanager

    @contextmanager
    def shown() -> Any:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        from common.console.tables import console

        errors = console(stderr=True)
        with Progress(
            *columns, console=errors, transient=True, disable=not sys.stderr.isatty()
        ) as bar:
            task = bar.add_task("")

            def progress(what: str, done: int, total: int) -> None:
                bar.update(task, description=what, completed=done, total=total)

            yield progress

    return shown()
