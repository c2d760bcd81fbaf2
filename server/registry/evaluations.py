"""What the evaluations of published adapters found, and when one is a reason to stop.

A round evaluates the version that it starts from: the figure comes out of the same secure sum as
the update. The note `evaluations/NNNN.json` of round NNNN is written before the round's own file,
so it counts exactly when that round was finished.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import hypot, sqrt
from pathlib import Path
from typing import Any

from common.errors import PrivityError
from common.privacy import evaluation
from common.rounds.outcomes import DONE, HELD
from common.secagg import RoundTerms
from common.settings import EvaluationSettings, RoundSettings, Settings, TaskSettings
from common.system.files import write
from common.tasks import task_of

FOLDER = "evaluations"
FORMAT = 1
DEVIATIONS = 3.0  # how far below; by chance alone 0.13 % of evaluations are so far
BASE = 0  # the version that changes nothing in the model, and gains nothing


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation of one version.

    Attributes:
        version: The round that published it.
        round: The round that evaluated it.
        gain: Over the base model, in `unit`, the mean over `devices`; more is better.
        noise_std: Standard deviation of the noise that devices added, in that mean.
        people_std: At most, how much the mean varies because not everybody was in the sum.
        parent: The version that it was made from.
        worse_than: The version that it is worse than by more than chance explains, if any.
    """

    version: int
    round: int
    gain: float
    noise_std: float
    people_std: float
    devices: int
    parent: int
    worse_than: int | None = None
    unit: str = task_of(TaskSettings()).unit  # also of the notes that do not say

    @property
    def std(self) -> float:
        """Standard deviation of the gain, at most."""
        return hypot(self.noise_std, self.people_std)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    def words(self) -> str:
        """The gain and its standard deviation."""
        return f"{self.gain:+.3f} ± {self.std:.3f} {self.unit}"

    def verdict(self) -> str:
        """What was found, in one clause."""
        if self.worse_than is None:
            return f"version {self.version} gains {self.words()} over the base model"
        other = f"version {self.worse_than}" if self.worse_than != BASE else "the base model"
        return (
            f"version {self.version} is worse than {other}: it gains {self.words()} over the base"
        )


def people_std(
    rounds: RoundSettings, evaluation: EvaluationSettings, cohort: int, survivors: int
) -> float:
    """A bound on the standard deviation of the survivors' mean about everybody's.

    A gain is between -R and R, so its variance among people is R² at most (Popoviciu); of N people
    n were drawn without replacement, which leaves R² / n · (1 - n / N). 0 when all were there.
    """
    everybody = cohort / rounds.cohort_rate
    missing = max(0.0, 1 - survivors / everybody)
    return evaluation.range * sqrt(missing / survivors)


def judged(
    settings: Settings,
    terms: RoundTerms,
    survivors: int,
    gain: float,
    lineage: tuple[int, int],
    known: Sequence[Evaluation],
) -> Evaluation:
    """An evaluation with its verdict.

    It is worse when the gain is below that of the parent's last evaluation by more than three
    standard deviations of the difference. Where the parent was not evaluated, and where it is the
    start, the base model takes its place, whose gain is 0 without any noise.

    Args:
        lineage: The version evaluated, and its parent.
        known: The evaluations before this one.
    """
    version, parent = lineage
    found = Evaluation(
        version=version,
        round=terms.round,
        gain=gain,
        noise_std=evaluation.mean_std(settings, terms, survivors),
        people_std=people_std(settings.rounds, settings.evaluation, terms.cohort, survivors),
        devices=survivors,
        parent=parent,
        unit=task_of(settings.task).unit,
    )
    before = latest(known).get(parent) if parent != BASE else None
    other = parent if before else BASE
    reference, std = (before.gain, before.std) if before else (0.0, 0.0)
    if gain - reference < -DEVIATIONS * hypot(found.std, std):
        return Evaluation(**found.to_dict() | {"worse_than": other})
    return found


def latest(known: Sequence[Evaluation]) -> dict[int, Evaluation]:
    """The last evaluation of each version, by version."""
    return {one.version: one for one in sorted(known, key=lambda one: one.round)}


def note(folder: Path, number: int, found: Evaluation | None) -> None:
    """Keep what round `number` is about to have found, in the registry's folder; None: nothing."""
    file = folder / FOLDER / f"{number:04d}.json"
    if found is None:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(exist_ok=True)
    write(file, json.dumps({"format": FORMAT, **found.to_dict()}))


def read(folder: Path, rounds: Mapping[int, str]) -> list[Evaluation]:
    """What finished rounds found, in order.

    Args:
        folder: The registry's.
        rounds: The outcomes of all rounds, by number.

    Raises:
        PrivityError: A note is damaged.
    """
    files = sorted((folder / FOLDER).glob("*.json"))
    return [_read(file) for file in files if rounds.get(int(file.stem)) in (DONE, HELD)]


def _read(file: Path) -> Evaluation:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        names = {one.name for one in fields(Evaluation)}
        if not isinstance(stored, dict) or stored.pop("format", None) != FORMAT:
            raise ValueError("another format")
        if set(stored) | {"unit"} != names:
            raise ValueError("other keys")
        return Evaluation(**stored)
    except ValueError:
        problem = f"{file} does not say what an evaluation found."
        raise PrivityError(problem, "The federation's folder was changed, or is newer.") from None
