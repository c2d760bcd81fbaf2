"""The terms of a round, from the run's settings and the cohort that was drawn."""

from __future__ import annotations

from common.adapter.state import Shared
from common.config import MIN_COHORT, Settings
from common.errors import InputError, RoundAbandonedError
from common.graph import graph_size
from common.secagg import RoundTerms
from common.secagg.quantize import levels_for


def round_terms(
    settings: Settings, shared: Shared, run: str, number: int, attempt: int, cohort: int
) -> RoundTerms:
    """Terms for one attempt of round `number` with `cohort` members.

    Raises:
        RoundAbandonedError: When so few were drawn that the threshold cannot be reached.
    """
    if cohort < MIN_COHORT:
        raise RoundAbandonedError(f"a cohort of {cohort} is below the least of {MIN_COHORT}.")
    neighbours, threshold = graph_size(settings, cohort)
    terms = RoundTerms(
        run=run,
        round=number,
        attempt=attempt,
        adapter=shared.digest(),
        seed=settings.seed,
        dimension=shared.plan.dimension,
        clip=settings.update_range,
        bits=settings.modulus_bits,
        levels=levels_for(cohort, settings.modulus_bits),
        cohort=cohort,
        neighbours=neighbours,
        threshold=threshold,
        colluders=2 * threshold - neighbours - 1,
        training=settings.digest(),
    )
    terms.validate()
    return terms


def check_reachable(settings: Settings) -> None:
    """Refuse settings under which no round could ever finish.

    Raises:
        InputError: Naming the setting at fault.
    """
    expected = settings.cohort or settings.users
    if expected < MIN_COHORT:
        problem = f"A cohort of {expected} is too small for a secure sum."
        raise InputError(problem, f"Use at least {MIN_COHORT} users (--users, --cohort).")
    try:
        neighbours, threshold = graph_size(settings, expected)
    except RoundAbandonedError as error:
        raise InputError(f"No round can finish: {error}", "Change --threshold.") from None
    degree = neighbours - (neighbours % 2 and expected % 2)  # no odd-regular graph on odd nodes
    if degree < threshold:
        problem = f"No round can finish: {expected} clients allow {degree} neighbours each."
        raise InputError(problem, "Change --neighbours or --threshold.")
    needed = -(-expected * threshold // degree)  # the quorum of common/secagg/SPEC.md
    survivors = expected * (1 - settings.dropout)
    if survivors < needed:
        problem = (
            f"No round can reach its threshold: of {expected} clients {survivors:.3g} are left "
            f"with --dropout {settings.dropout:g}, and {needed} are needed."
        )
        raise InputError(problem, "Lower --dropout or --threshold.")
