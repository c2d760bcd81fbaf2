"""What a device's release costs one example, for the accountant, and how noisy it is at least.

A release is three Gaussians, each chosen in the knowledge of those before it:

- how many examples the device holds, by which the window of the release is set: sensitivity 1. This
  number never leaves the device, but what leaves depends on it;
- the steps of DP-SGD on the training examples in the window: sensitivity C;
- the figure of the evaluation, where there is one (`common/privacy/evaluation.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from common.privacy.accountant import Release, calibrate
from common.privacy.evaluation import planned_evaluations
from common.privacy.evaluation import release as evaluation
from common.privacy.planning import planned_rounds
from common.settings import RecordLevel, Settings, TrainingSettings

COUNT_NOISE = 5.0  # of the count, in units of σ: it takes 4 % of a step's privacy, and counts well


def training(
    record: RecordLevel, local: TrainingSettings, sigma: float, rounds: int = 1
) -> Release:
    """The steps of so many rounds."""
    return Release(sigma, record.sample_rate, local.local_steps * rounds)


def count(sigma: float, rounds: int = 1) -> Release:
    """The noisy number of examples in so many rounds."""
    return Release(COUNT_NOISE * sigma, 1.0, rounds)


def updates(
    record: RecordLevel, local: TrainingSettings, sigma: float, rounds: int
) -> list[Release]:
    """All that so many rounds cost, without evaluations."""
    return [training(record, local, sigma, rounds), count(sigma, rounds)]


def evaluations(settings: Settings, rounds: int) -> list[Release]:
    """The evaluations in so many rounds: no more than are planned."""
    if not settings.evaluation.epsilon:
        return []
    return [evaluation(settings)] * min(rounds, planned_evaluations(settings.rounds))


def planned_sigma(settings: Settings) -> float:
    """The σ with which a device that has released nothing can afford all that is planned.

    Public, and the least that any device uses: nobody's releases cost more than the server states,
    whenever they joined and whatever they declined.

    Raises:
        BudgetExceededError: No noise that is tried is enough.
    """
    rounds = planned_rounds(settings.rounds, 1)
    beside = tuple(evaluations(settings, rounds))
    return _sigma(
        tuple(updates(settings.record, settings.training, 1.0, rounds)), beside, settings.record
    )


@lru_cache(maxsize=256)
def _sigma(planned: Sequence[Release], beside: Sequence[Release], record: RecordLevel) -> float:
    return calibrate(
        beside,
        planned,
        target=record.epsilon,
        delta=record.delta,
        accountant=record.accountant,
    )
