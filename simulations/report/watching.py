"""Turns what happens in a run into what the display shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean

from client.federation.contribution import LOSS
from client.vault.ledger import RECORD, USER
from client.vault.store import Store
from common.settings import Settings, SimulationSettings
from server.registry.registry import history
from simulations.report.display import LEG_WORDS, Display

FIRST_EXCHANGES = ("query.advertise", "train.update")  # of a cold round, of one set up before
RIDDEN_EXCHANGES = 3  # the other three ride on the round before
PEOPLE_READ = 64  # enough for a mean loss on the terminal


def attempts_made(simulation: SimulationSettings) -> int:
    """Outcomes of the run so far: rounds, and what was abandoned before anybody was charged."""
    return len(history(_place(simulation)))


@contextmanager
def round_watch(
    settings: Settings, display: Display, left: int
) -> Iterator[Callable[[int, str], None]]:
    """A watcher of answers (node, message type) that advances a bar and reports each round."""
    exchanges = left * RIDDEN_EXCHANGES + len(LEG_WORDS) - RIDDEN_EXCHANGES
    expected = exchanges * (settings.rounds.cohort or settings.rounds.users)
    shown, before = attempts_made(settings.simulation), ""

    def report() -> None:
        nonlocal shown
        for entry in history(_place(settings.simulation))[shown:]:
            display.round_done(
                entry, settings.rounds, settings.task, *_progress(settings, entry.round)
            )
            shown += 1

    with display.bar("rounds", expected) as advance:

        def watch(_: int, kind: str) -> None:
            nonlocal before
            if kind != before and kind in FIRST_EXCHANGES:
                report()  # a new round begins: the one before is finished
            before = kind
            advance(LEG_WORDS[kind])

        yield watch
    report()


def _place(simulation: SimulationSettings) -> Path:
    return Path(simulation.out) / "server"


def _progress(settings: Settings, number: int) -> tuple[float | None, str]:
    """Mean training loss on the devices, read here only because they are simulated, and ε.

    As they were after round `number`: some devices are in the next one already.
    """
    losses, spent = [], {RECORD: 0.0, USER: 0.0}
    for file in sorted((Path(settings.simulation.out) / "devices").glob("*.db"))[:PEOPLE_READ]:
        store = Store.open(file)
        entries, loss = store.ledger.entries(), store.get(LOSS)
        store.close()
        if loss and all(entry.round <= number for entry in entries):
            losses.append(float(loss))
        for entry in entries:
            if entry.round <= number and entry.spent:
                spent[entry.guarantee] = max(spent[entry.guarantee], entry.spent.epsilon)
    words = (
        [f"ε {spent[RECORD]:.2f} of {settings.record.epsilon:g} an example"]
        if settings.record.dp
        else []
    )
    if settings.user.epsilon:
        words.append(f"ε {spent[USER]:.2f} of {settings.user.epsilon:g} a person")
    return (mean(losses) if losses else None), ", ".join(words) or "no DP"
