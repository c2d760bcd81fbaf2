"""A federation on hold: a round found its version worse, went back, and waits for the operator.

The hold is the held round itself, as the last one there is. What ends it is a file written later: a
rollback, or `resumed/NNNN.json` for round NNNN. So it holds through any crash, and is ended once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from common.errors import InputError
from common.rounds.outcomes import HELD
from common.system.files import write
from server.registry.evaluations import Evaluation
from server.registry.provenance import software, utc_now
from server.registry.registry import current, entries, evaluations, rollbacks

FOLDER = "resumed"


@dataclass(frozen=True, slots=True)
class Hold:
    """Why no rounds are made.

    Attributes:
        round: The round that found it.
        back_to: The version from which the next round would start.
    """

    round: int
    found: Evaluation
    back_to: int

    def why(self) -> str:
        """What happened, in one sentence."""
        back = f"version {self.back_to}" if self.back_to else "the start"
        return f"On hold since round {self.round}: {self.found.verdict()}; went back to {back}."


HOW_TO_GO_ON = "`run --resume` makes rounds from there, `rollback VERSION` from another version."


def on_hold(folder: Path) -> Hold | None:
    """Why the federation in `folder` is on hold, if it is.

    Raises:
        PrivityError: The registry is damaged.
    """
    place = folder / "server"
    rounds = entries(place)
    if not rounds or rounds[-1].status != HELD:
        return None
    last = rounds[-1].round
    if _resumed(place, last).exists() or any(one.after >= last for one in rollbacks(place)):
        return None
    found = next(one for one in evaluations(place) if one.round == last)
    return Hold(last, found, current(place))


def resume(folder: Path) -> Hold:
    """End the hold; what it was.

    Raises:
        InputError: There is none.
    """
    hold = on_hold(folder)
    if hold is None:
        raise InputError("The federation is not on hold.", "Leave --resume out.")
    file = _resumed(folder / "server", hold.round)
    file.parent.mkdir(exist_ok=True)
    write(file, json.dumps({"at": utc_now(), "software": software()}))
    return hold


def _resumed(place: Path, number: int) -> Path:
    return place / FOLDER / f"{number:04d}.json"
