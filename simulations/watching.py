"""Turns what happens in a run into what the display shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean

from client.participation import LOSS
from client.store import Store
from common.backbone import adapter_plans
from common.config import Settings
from common.privacy.accountant import epsilon
from server.registry import Registry
from simulations.display import LEG_WORDS, Display

PEOPLE_READ = 64  # enough for a mean loss on the terminal


def rounds_done(settings: Settings) -> int:
    """Finished rounds of the run."""
    return len(_registry(settings).rounds())


@contextmanager
def round_watch(
    settings: Settings, display: Display, left: int
) -> Iterator[Callable[[int, str], None]]:
    """A watcher of answers (node, message type) that advances a bar and reports each round."""
    expected = left * (settings.cohort or settings.users) * len(LEG_WORDS)
    shown = rounds_done(settings)

    def report() -> None:
        nonlocal shown
        for entry in _registry(settings).rounds()[shown:]:
            display.round_done(entry, settings.rounds, *_progress(settings))
            shown += 1

    with display.bar("rounds", expected) as advance:

        def watch(_: int, kind: str) -> None:
            if kind == next(iter(LEG_WORDS)):
                report()  # a new round's first leg: the one before is finished
            advance(LEG_WORDS[kind])

        yield watch
    report()


def _registry(settings: Settings) -> Registry:
    return Registry(Path(settings.out) / "server", adapter_plans(settings)[0])


def _progress(settings: Settings) -> tuple[float | None, str]:
    """Mean training loss on the devices, read here only because they are simulated, and ε."""
    losses, spent = [], 0.0
    for file in sorted((Path(settings.out) / "devices").glob("*.db"))[:PEOPLE_READ]:
        store = Store(file)
        if loss := store.get(LOSS):
            losses.append(float(loss))
        if settings.dp:
            spent = max(spent, epsilon(store.releases(), settings.delta))
        store.close()
    words = f"ε {spent:.2f} of {settings.epsilon:g}" if settings.dp else "no DP"
    return (mean(losses) if losses else None), words
