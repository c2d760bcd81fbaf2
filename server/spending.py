"""What members were charged so far, at most, under both guarantees: the server's own account.

Each device has a ledger, which nobody else sees. What the server knows is how many attempts there
were whose members may have been charged; a device that answered every one of them comes first in
both budgets. Those that missed one, or joined later, are behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.config import Settings
from common.errors import BudgetExceededError
from common.evaluation import planned_evaluations, release
from common.planning import planned_rounds
from common.privacy.accountant import Release, calibrate, epsilon
from common.privacy.user_level import user_epsilon
from server.provenance import Guarantee, Spending


def spent_after(settings: Settings, rhos: Sequence[float]) -> Spending:
    """What is spent after these attempts (`Registry.user_rhos`).

    Record level, training and evaluations together: σ is what a device chooses that is there from
    the first round; where attempts were repeated it then adds noise to stay within its budget, so
    the lesser of both is the bound.
    Where cohorts are sampled each device plans for itself, and its budget is all that is known.
    """
    record = user = None
    if settings.dp:
        spent = _record_epsilon(settings, len(rhos))
        record = Guarantee(min(spent, settings.epsilon), settings.delta, settings.epsilon)
    if settings.user_epsilon:
        spent = user_epsilon(rhos, settings.user_delta)
        budget = settings.user_epsilon
        user = Guarantee(min(spent, budget), settings.user_delta, budget)
    return Spending(record, user)


def _record_epsilon(settings: Settings, attempts: int) -> float:
    if not attempts:
        return 0.0
    if settings.cohort_rate < 1:
        return settings.epsilon
    steps, rate = settings.local_steps, settings.sample_rate
    planned = steps * planned_rounds(settings, 1)
    try:
        sigma = calibrate(
            _evaluations(settings, planned_evaluations(settings)),
            steps=planned,
            sample_rate=rate,
            target=settings.epsilon,
            delta=settings.delta,
            accountant=settings.accountant,
        )
    except BudgetExceededError:  # then no device releases anything
        return 0.0
    trained = Release(sigma, rate, steps * attempts)
    everything = [trained, *_evaluations(settings, attempts)]
    return epsilon(everything, settings.delta, settings.accountant)


def _evaluations(settings: Settings, attempts: int) -> list[Release]:
    """What a device released beside its updates, which is no more than was planned."""
    if not settings.evaluation_epsilon:
        return []
    return [release(settings)] * min(attempts, planned_evaluations(settings))
