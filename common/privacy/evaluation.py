"""The federated evaluation in numbers: the same for the server and for every device.

A device's figure is what the published adapter gains over the base model on the device's own
held-out examples, in the task's unit of loss: each example's gain clipped to ±R, their sum divided
by a public constant K, plus Gaussian noise on the device. One example more or less moves it by
R / K at most.

It travels behind the update, as one more coordinate of the vector that the secure sum adds up
(docs/DESIGN.md, section 4), so it costs no message and shows in no size. The noise is the same on
every device and in every round, calibrated such that as many evaluations as a device plans for
stay within `evaluation_epsilon`; a device whose evaluations are spent sends noise around 0.
"""

from __future__ import annotations

from math import hypot, sqrt

import numpy as np
from numpy.typing import NDArray

from common.privacy.accountant import Release, calibrate
from common.privacy.planning import planned_rounds
from common.secagg import RoundTerms
from common.settings import EvaluationSettings, RoundSettings, Settings, SumSettings, UserLevel
from common.tasks.sets import expected_held_out

SHARE = 0.5  # κ: the figure's largest size beside the bound of a whole update, at user level
TAILS = 6.0  # standard deviations of a device's noise for which there is room: 2e-9 are beyond


def coordinates(evaluation: EvaluationSettings) -> int:
    """How many coordinates the evaluation adds to the update: 1, or 0 where there is none."""
    return 1 if evaluation.epsilon else 0


def counted_answers(rounds: RoundSettings) -> int:
    """K: how many held-out answers of one person a figure expects; the divisor for everybody."""
    return expected_held_out(rounds.examples)


def planned_evaluations(rounds: RoundSettings) -> int:
    """How many evaluations share `evaluation_epsilon`: one for each round a device plans for."""
    return planned_rounds(rounds, 1)


def release(settings: Settings) -> Release:
    """One evaluation, as the accountant sees it: a Gaussian with σ in units of R / K.

    Raises:
        BudgetExceededError: No noise that is tried is enough.
    """
    sigma = calibrate(
        (),
        [Release(1.0, 1.0, planned_evaluations(settings.rounds))],
        target=settings.evaluation.epsilon,
        delta=settings.record.delta,
        accountant=settings.record.accountant,
    )
    return Release(sigma, 1.0, 1)


def device_std(settings: Settings) -> float:
    """Standard deviation of the noise in one device's figure, in the task's unit of loss."""
    sensitivity = settings.evaluation.range / counted_answers(settings.rounds)
    return release(settings).noise_multiplier * sensitivity


def figure_range(settings: Settings) -> float:
    """The largest figure with its noise, in the task's unit of loss; beyond it is clipped."""
    return settings.evaluation.range + TAILS * device_std(settings)


def coordinate_range(user: UserLevel, sums: SumSettings) -> float:
    """What `figure_range` becomes in the vector that is summed, in units of the parameter."""
    return SHARE * user.clip if user.epsilon else sums.update_range


def joint_clip(user: UserLevel, evaluation: EvaluationSettings) -> float:
    """The L2 bound of update and figure together, with the user-level guarantee."""
    return user.clip * (hypot(1, SHARE) if coordinates(evaluation) else 1.0)


def nats(settings: Settings) -> float:
    """Nats a token for one unit of the figure's coordinate."""
    return figure_range(settings) / coordinate_range(settings.user, settings.sum)


def split(
    settings: Settings, mean: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float | None]:
    """The mean update and the mean figure, of what was summed; None without one."""
    if not coordinates(settings.evaluation):
        return mean, None
    return mean[:-1], float(mean[-1]) * nats(settings)


def mean_std(settings: Settings, terms: RoundTerms, survivors: int) -> float:
    """Standard deviation of all noise in the survivors' mean figure, in the task's unit of loss.

    Each device's own Gaussian, and its share of the user-level noise. Rounding to the grid of the
    sum is left out: it is below one of the `terms.levels` steps of a figure's range.
    """
    share = terms.noise * terms.clip / terms.levels * nats(settings)
    return hypot(device_std(settings), share) / sqrt(survivors)
