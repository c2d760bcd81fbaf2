"""What a device may still release: its ledger against the plan and the budgets of the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from client.vault.ledger import UNBOUNDED, Charge, Spent
from common.errors import BudgetExceededError
from common.privacy import releases
from common.privacy.accountant import Release, calibrate, epsilon
from common.privacy.evaluation import release
from common.privacy.planning import planned_rounds
from common.privacy.user_level import user_epsilon
from common.secagg import RoundTerms
from common.settings import Settings, UserLevel

if TYPE_CHECKING:
    from client.federation.device import Device

ROUNDING = 1e-9  # relative; the server's plan and the device's sum are added up in other orders
MOST_NOISE = 4.0  # times the public σ: one device in eight with more would drown the seven others


def next_release(
    past: Sequence[Release],
    settings: Settings,
    number: int,
    evaluations: Sequence[Release] = (),
) -> Release:
    """The noisy steps of round `number`, such that the whole plan stays within the budget.

    The plan is the training of all rounds that are left, with the counts and evaluations beside it:
    an answer that is held out today may be trained on tomorrow, so all count against the one ε.
    σ is the least that fits, but never less than the public one that an empty ledger would give,
    which is what the server states. Repeated rounds and other runs are paid for by more noise, as
    long as what is sent is more than noise.

    Args:
        past: Everything that was charged so far.
        evaluations: The evaluations among it.

    Raises:
        BudgetExceededError: When the budget is spent.
    """
    rounds = planned_rounds(settings.rounds, number)
    fixed = [*past, *_to_come(evaluations, settings, number)]
    least = releases.planned_sigma(settings)
    planned = [*fixed, *releases.updates(settings.record, settings.training, least, rounds)]
    spent = epsilon(planned, settings.record.delta, settings.record.accountant)
    if spent <= settings.record.epsilon * (1 + ROUNDING):
        return releases.training(settings.record, settings.training, least)
    sigma = calibrate(
        fixed,
        releases.updates(settings.record, settings.training, 1.0, rounds),
        target=settings.record.epsilon,
        delta=settings.record.delta,
        accountant=settings.record.accountant,
    )
    if sigma > MOST_NOISE * least:
        raise BudgetExceededError(
            f"what is left of ε = {settings.record.epsilon:g} would "
            f"pay for {sigma / least:.1f} times the planned noise, and more than {MOST_NOISE:g} "
            "times helps nobody."
        )
    return releases.training(settings.record, settings.training, max(least, sigma))


def next_evaluation(past: Sequence[Release], settings: Settings, number: int) -> Release | None:
    """The evaluation of round `number`; None where there is none or nothing is left for it.

    Its noise is the same on every device and never more, so that the server knows it. A repeated
    round therefore uses up an evaluation.

    Args:
        past: The evaluations that were charged so far.
    """
    return release(settings) if _to_come(past, settings, number) else None


def _to_come(past: Sequence[Release], settings: Settings, number: int) -> list[Release]:
    """The evaluations planned from round `number` on, as far as their own ε allows."""
    if not settings.evaluation.epsilon:
        return []
    one, left = release(settings), planned_rounds(settings.rounds, number)
    most = settings.evaluation.epsilon * (1 + ROUNDING)
    while (
        left
        and epsilon([*past, *[one] * left], settings.record.delta, settings.record.accountant)
        > most
    ):
        left -= 1
    return [one] * left


def require_user_budget(past: Sequence[float], rho: float, user: UserLevel) -> None:
    """Check that one more release of `rho` (zCDP) keeps the person within `--user-epsilon`.

    Raises:
        BudgetExceededError: When it does not.
    """
    spent = user_epsilon([*past, rho], user.delta)
    if spent > user.epsilon * (1 + ROUNDING):
        raise BudgetExceededError(
            f"another round would bring the person's ε to {spent:.2f}, beyond the budget of "
            f"{user.epsilon:g}."
        )


def cost_of(device: Device, settings: Settings, terms: RoundTerms) -> Charge:
    """What the round will cost under both guarantees, and what the ledger comes to with it.

    Which examples it is about is not known yet.

    Raises:
        BudgetExceededError: More than is left of either.
    """
    ledger, steps = device.store.ledger, device.steps
    record, count, example = (
        releases.training(settings.record, settings.training, 0.0),
        None,
        UNBOUNDED,
    )
    past = ledger.evaluations()
    scored = next_evaluation(past, settings, terms.round)
    if settings.record.dp:
        record = steps.next_release(ledger.releases(), settings, terms.round, past)
        count = releases.count(record.noise_multiplier)
        all_of_it = [record, count, *([scored] if scored else [])]
        released = [*ledger.releases(), *all_of_it]
        example = steps.epsilon(released, settings.record.delta, settings.record.accountant)
    rho = UNBOUNDED
    if terms.noise:
        rho = steps.user_rho(terms)
        require_user_budget(ledger.user_rhos(), rho, settings.user)
    person = user_epsilon([*ledger.user_rhos(), rho], settings.user.delta)
    return Charge(
        terms.run,
        terms.round,
        terms.attempt,
        record,
        rho,
        "",
        Spent(example, settings.record.delta),
        Spent(person, settings.user.delta),
        scored,
        count=count,
    )
