"""What members were charged so far, at most, under both guarantees: the server's own account.

Each device has a ledger, which nobody else sees. What the server knows is how many attempts there
were whose members may have been charged; this federation charged no device more than one that
answered every one of them. What a device released to others is in its own ledger only.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from common.errors import BudgetExceededError
from common.privacy.accountant import Release, epsilon, epsilon_of_two
from common.privacy.gaussian import gaussian_epsilon, gaussian_mu
from common.privacy.releases import evaluations, planned_sigma, updates
from common.privacy.user_level import user_epsilon
from common.settings import Settings
from common.tasks import task_of
from server.registry.provenance import Guarantee, Spending


def spent_after(settings: Settings, rhos: Sequence[float]) -> Spending:
    """What is spent after these attempts (`Registry.user_rhos`).

    Record level, training, counts and evaluations together: no device uses less noise than
    `planned_sigma`, whenever it joined and whatever it declined, and none goes beyond the budget;
    so the lesser of both is the bound, also where cohorts are sampled.
    """
    record = user = None
    if settings.record.dp:
        record = _record_level(settings, len(rhos))
    if settings.user.epsilon:
        spent = user_epsilon(rhos, settings.user.delta)
        budget = settings.user.epsilon
        user = Guarantee(min(spent, budget), settings.user.delta, budget)
    return Spending(record, user)


def _record_level(settings: Settings, attempts: int) -> Guarantee:
    released = _released(settings, attempts)
    budget, delta, accountant = (
        settings.record.epsilon,
        settings.record.delta,
        settings.record.accountant,
    )
    spent = min(epsilon(released, delta, accountant), budget)
    if not task_of(settings.task).overlapping:
        return Guarantee(spent, delta, budget)
    message = epsilon_of_two(released, delta, accountant)
    if (
        settings.record.sample_rate == 1
    ):  # then what a device releases within its budget is one Gaussian
        message = min(message, gaussian_epsilon(2 * gaussian_mu(budget, delta), delta))
    return Guarantee(spent, delta, budget, message if isfinite(message) else None)


def _released(settings: Settings, attempts: int) -> list[Release]:
    """What a device released at most that answered all of these attempts."""
    try:
        sigma = planned_sigma(settings)
    except BudgetExceededError:  # then no device releases anything
        return []
    return [
        *updates(settings.record, settings.training, sigma, attempts),
        *evaluations(settings, attempts),
    ]
