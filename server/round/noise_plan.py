"""What the server plans: user-level noise for a round, and whether a run can work at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import TypeVar

from common.errors import BudgetExceededError, InputError, ProtocolError, RoundAbandonedError
from common.privacy.evaluation import release
from common.privacy.noise import SIGMA_RANGE
from common.privacy.planning import planned_rounds
from common.privacy.releases import planned_sigma
from common.privacy.user_level import calibrate_user
from common.rounds.round_terms import graph_for, round_terms
from common.settings import MIN_COHORT, RoundSettings, Settings, UserLevel

Found = TypeVar("Found")


def plan_noise(
    rounds: RoundSettings, user: UserLevel, spent: Sequence[float], number: int
) -> float:
    """User-level noise multiplier of round `number`; 0 without that guarantee.

    Args:
        spent: zCDP ρ of every attempt so far that members may have been charged for.

    Raises:
        RoundAbandonedError: When nothing is left of the budget.
    """
    if not user.epsilon:
        return 0.0
    if rounds.cohort_rate < 1:  # who was in which round differs; each device stops for itself
        spent, number = (), 1
    releases = planned_rounds(rounds, number)
    target, delta = user.epsilon, user.delta
    try:
        rho = calibrate_user(spent, releases, target, delta)
    except BudgetExceededError as error:
        raise RoundAbandonedError(str(error)) from None
    return 1 / sqrt(2 * rho)


def check_reachable(settings: Settings, dimension: int) -> None:
    """Refuse settings under which no round could ever finish.

    Raises:
        InputError: Naming the setting at fault.
    """
    expected = settings.rounds.cohort or settings.rounds.users
    if expected < MIN_COHORT:
        problem = f"A cohort of {expected} is too small for a secure sum."
        raise InputError(problem, f"Take at least {MIN_COHORT} (users and cohort of the run).")
    least = _possible(lambda: graph_for(settings.sum, expected)).least
    survivors = expected * (1 - settings.simulation.dropout)
    if survivors < least:
        problem = (
            f"No round can finish: of {expected} clients {survivors:.3g} are left with --dropout "
            f"{settings.simulation.dropout:g}, and {least} are needed."
        )
        raise InputError(problem, "Lower --dropout, raise --tolerated-losses, or take more users.")
    try:
        noise = plan_noise(settings.rounds, settings.user, (), 1)
    except RoundAbandonedError as error:
        raise InputError(
            f"No noise keeps the person's ε: {error}", "Raise --user-epsilon."
        ) from None
    terms = _possible(lambda: round_terms(settings, dimension, "check", 1, 0, expected, noise))
    if terms.noise > SIGMA_RANGE[1]:
        problem = f"No device can draw noise of {terms.noise:.3g} levels (at most 2^26)."
        raise InputError(problem, "Lower --modulus-bits, or raise --user-epsilon.")
    _check_evaluation(settings)
    _check_record_level(settings)


def _possible(plan: Callable[[], Found]) -> Found:
    """What the settings lead to.

    Raises:
        InputError: No secure sum can be made of them.
    """
    try:
        return plan()
    except ProtocolError as error:
        hint = error.hint or "Change the cohort, its tolerances or --modulus-bits."
        raise InputError(f"No round can be made: {error.message}", hint) from None


def _check_record_level(settings: Settings) -> None:
    """A device's whole plan must fit its ε; otherwise every device would decline every round."""
    if not settings.record.dp:
        return
    try:
        planned_sigma(settings)
    except BudgetExceededError:
        problem = f"No amount of noise that is tried keeps --epsilon {settings.record.epsilon:g}."
        raise InputError(problem, "Raise it, or plan fewer rounds.") from None


def _check_evaluation(settings: Settings) -> None:
    if not settings.evaluation.epsilon:
        return
    try:
        release(settings)
    except BudgetExceededError:
        problem = (
            f"No noise that is tried keeps --evaluation-epsilon {settings.evaluation.epsilon:g}."
        )
        raise InputError(problem, "Raise it, or set it to 0 for no evaluation.") from None
