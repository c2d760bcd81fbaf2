"""`privity-client train`: fit the personal adapter, and keep it only if it helps."""

from __future__ import annotations

import argparse
from typing import Any

from client.vault.home import open_vault
from common.console.say import say
from common.errors import InputError

HEADINGS = ("when", "model", "learnt from", "held out", "before", "after", "kept")
POLITENESS = 5  # other work of the person's goes first


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("train", help="learn from your records, on this device alone")
    parser.add_argument(
        "--model", default="", metavar="NAME",
        help="base model, where no federation decides it (default: smollm2-135m)",
    )  # fmt: skip
    parser.add_argument("--history", action="store_true", help="show what was learnt when")
    parser.add_argument(
        "--rollback", action="store_true", help="use the personal adapter before the last one again"
    )
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Nothing of this is ever sent."""
    if options.history and options.rollback:
        raise InputError("--history and --rollback contradict each other.", "Give one of them.")
    if options.history:
        return _history(options)
    if options.rollback:
        return _rollback(options)
    return _train(options)


def _train(options: argparse.Namespace) -> int:
    import os

    from client.federation.examples import sets_key
    from client.learning import adapters, history
    from client.learning.personal import train

    os.nice(max(0, POLITENESS - os.nice(0)))
    with open_vault(options, exclusive=True) as vault:
        have, store = adapters.load(vault.store, options.model), vault.store
        with _watched() as progress:
            result = train(
                vault.records.all(),
                have.shared,
                have.settings,
                progress,
                key=sets_key(store),
                kept=have.kept,
                current=have.personal,
                unfinished=history.unfinished(store),
            )
        with store.together():
            if result.personal is not None:
                history.keep_before(store, have.settings)
                adapters.keep_personal(store, have.settings, result.personal)
            history.note(store, have.settings.model.name, result)
            history.finished(store)
    several = result.task.several
    say(
        f"{result.heldout} held-out {several}, {result.task.unit}: {result.base_loss:.3f} base, "
        f"{result.before_loss:.3f} before, {result.after_loss:.3f} after learning from "
        f"{result.train} {several}."
    )
    if result.validation:
        say(
            f"The newest {result.validation} of these chose how: learning rate {result.rate:g}, "
            f"{result.passes:.1f} passes."
        )
    say(result.reason)
    return 0


def _history(options: argparse.Namespace) -> int:
    from datetime import datetime

    from client.learning import history
    from common.console.tables import console, show_table
    from common.visible import visible

    with open_vault(options) as vault:
        found = history.entries(vault.store)
    if not found:
        say("Nothing was learnt yet.")
        return 0
    rows = [
        (f"{datetime.fromtimestamp(one.at):%Y-%m-%d %H:%M}", visible(one.model), f"{one.train:,}",
         f"{one.heldout:,}", f"{one.before:.3f}", f"{one.after:.3f}", "yes" if one.kept else "no")
        for one in found
    ]  # fmt: skip
    show_table(console(), HEADINGS, rows, figures=HEADINGS[2:6], bare=True)
    return 0


def _rollback(options: argparse.Namespace) -> int:
    from client.learning import history
    from client.learning.in_use import settings_in_use

    with open_vault(options, exclusive=True) as vault:
        settings = settings_in_use(vault.store, options.model)
        if not history.roll_back(vault.store, settings):
            problem = "There is no personal adapter before this one."
            raise InputError(problem, "`privity-client train --history` shows what was learnt.")
    say("The personal adapter before the last one is in use again; --rollback again undoes this.")
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
