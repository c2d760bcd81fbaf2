"""What `train` did so far: each fit with its figures, and the way back to the adapter before."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from client.learning.adapters import personal_key
from client.learning.personal import TrainResult, Unfinished
from client.vault.store import Store
from common.settings import Settings

HISTORY, BEFORE, UNFINISHED = "train/history", "train/before/", "train/unfinished"
MOST = 50  # entries; older ones are dropped
NAME_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Training:
    """One fit. Losses are means over held-out predictions, in the task's unit.

    Attributes:
        at: Seconds since 1970.
        validation: Examples that chose the rate and the end; 0: the settings did.
    """

    at: int
    model: str
    train: int
    heldout: int
    before: float
    after: float
    kept: bool
    validation: int = 0
    rate: float = 0.0
    passes: float = 0.0


def entries(store: Store) -> list[Training]:
    """All that are remembered, the oldest first."""
    return [Training(**one) for one in json.loads(store.get(HISTORY) or b"[]")]


def note(store: Store, model: str, result: TrainResult) -> None:
    """Remember a fit on top of this model."""
    entry = Training(
        store.now(), model, result.train, result.heldout, result.before_loss,
        result.after_loss, result.kept, result.validation, result.rate, result.passes,
    )  # fmt: skip
    found = [*entries(store), entry][-MOST:]
    store.put(HISTORY, json.dumps([asdict(one) for one in found]).encode())


def keep_before(store: Store, settings: Settings) -> None:
    """Put the personal adapter in use aside, to come back to; nothing where there is none."""
    key = personal_key(settings)
    if (content := store.get(key)) is not None:
        store.put(f"{BEFORE}{key}", content)


def roll_back(store: Store, settings: Settings) -> bool:
    """Use the personal adapter before the last one again; a second time undoes this.

    Returns:
        Whether there was one.
    """
    key = personal_key(settings)
    now, before = store.get(key), store.get(f"{BEFORE}{key}")
    if before is None:
        return False
    with store.together():
        store.put(key, before)
        if now is None:
            store.drop(f"{BEFORE}{key}")
        else:
            store.put(f"{BEFORE}{key}", now)
    return True


def unfinished(store: Store) -> Unfinished:
    """A fit that was interrupted, kept in the vault until one has come to its end."""

    def load(name: str) -> bytes | None:
        content = store.get(UNFINISHED) or b""
        return content[NAME_CHARACTERS:] if content[:NAME_CHARACTERS] == name.encode() else None

    return Unfinished(load, lambda name, state: store.put(UNFINISHED, name.encode() + state))


def finished(store: Store) -> None:
    """Forget the fit that was kept to go on with."""
    store.drop(UNFINISHED)
