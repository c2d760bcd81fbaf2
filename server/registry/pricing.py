"""The settings that a federation's ε rests on: they stay what they were when members were charged.

What is stated of all rounds so far is reckoned by one plan (`spending.py`). Another ε, or another
number of rounds, would make it wrong for who was charged under the plan before.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common.errors import InputError, PrivityError
from common.settings import Settings
from common.system.files import write

FILE = "priced.json"
NAMES = (
    "dp", "epsilon", "delta", "accountant", "rounds", "local_steps", "sample_rate",
    "user_epsilon", "user_delta", "evaluation_epsilon", "cohort_rate",
)  # fmt: skip


def note_price(folder: Path, settings: Settings) -> None:
    """Keep them, the first time that anybody may be charged."""
    if not (folder / FILE).exists():
        write(folder / FILE, json.dumps(_of(settings)))


def require_price(folder: Path, settings: Settings) -> None:
    """Check that they are what they were.

    Raises:
        InputError: One was changed.
        PrivityError: The note is damaged.
    """
    if not (folder / FILE).exists():
        return
    try:
        before = dict(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        problem = f"{folder / FILE} does not say what rounds cost so far."
        raise PrivityError(problem, "The federation's folder was changed, or is newer.") from None
    for name, now in _of(settings).items():
        if name in before and before[name] != now:
            problem = f"{name} is {now} and was {before[name]} when members were charged for rounds"
            raise InputError(
                f"{problem}: the ε that is stated would be wrong for them.",
                f"Set it to {before[name]} again, or start a new federation.",
            )


def _of(settings: Settings) -> dict[str, Any]:
    values = settings.to_dict() | {"cohort_rate": settings.rounds.cohort_rate}
    return {name: values[name] for name in NAMES}
