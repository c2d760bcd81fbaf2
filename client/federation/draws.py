"""How often this device chose the holders of its keys without making an update.

Each choice is a draw, and the colluders among a server's members may be lucky in one (SPEC.md,
section 1). A server that could have it drawn again at no cost would ask until they are. So a draw
is made once for an attempt at a round, and there are few draws for one update: only an update,
which is charged, makes room for more. What is counted outlives a restart. Which attempt was drawn
for is known only until a draw for another run or a round further away; every draw counts.
"""

from __future__ import annotations

import json
from typing import Any

from client.vault.store import Store
from common.errors import ProtocolError
from common.secagg import RoundTerms
from common.secagg.parameters import MOST_DRAWS

SPARE, DAY_S = 64, 24 * 60 * 60  # draws for one update; one more for each day it is waited for
COUNTED, LATEST = OF_DRAWS = "draws", "drawn/"  # the latter with a round's number


def require_new(store: Store, terms: RoundTerms) -> None:
    """Check that this attempt at the round may lead to a draw.

    Raises:
        ProtocolError: There was a draw for it or for a later one, or there were too many.
    """
    kept = store.get(f"{LATEST}{terms.round}")
    run, attempt = json.loads(kept) if kept else ("", -1)
    if run == terms.run and attempt >= terms.attempt:
        raise ProtocolError(
            f"holders for round {terms.round} were chosen in attempt {attempt}; "
            f"attempt {terms.attempt} comes too late."
        )
    _require_room(store, _counted(store))


def _require_room(store: Store, counted: dict[str, Any]) -> None:
    waited = max(0, store.now() - counted["since"]) // DAY_S
    allowed = min(SPARE + waited, MOST_DRAWS)
    if counted["draws"] >= allowed:
        raise ProtocolError(
            f"holders were chosen {counted['draws']} times since this device's last update, "
            f"{allowed} are allowed; there is one more for each day."
        )


def note(store: Store, terms: RoundTerms) -> None:
    """Count a draw, before anybody learns of it.

    Raises:
        ProtocolError: There were too many, since the device was asked for keys.
    """
    counted = _counted(store)
    _require_room(store, counted)
    counted["draws"] += 1
    with store.together():
        store.put(COUNTED, json.dumps(counted).encode())
        store.put(f"{LATEST}{terms.round}", json.dumps([terms.run, terms.attempt]).encode())


def paid(store: Store) -> None:
    """An update was charged: the draws before it are over."""
    store.drop(COUNTED)


def forget_but(store: Store, rounds: set[int]) -> None:
    """Which attempts of other rounds were drawn for no longer matters; the count stays."""
    for key in store.keys(LATEST):
        if int(key.removeprefix(LATEST)) not in rounds:
            store.drop(key)


def _counted(store: Store) -> dict[str, Any]:
    kept = store.get(COUNTED)
    return json.loads(kept) if kept else {"draws": 0, "since": store.now()}
