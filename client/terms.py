"""What a device accepts as the terms of a round."""

from __future__ import annotations

from dataclasses import replace

from common.backbone import adapter_plans
from common.config import MIN_COHORT, Settings
from common.errors import ProtocolError
from common.secagg import RoundTerms
from common.terms import noise_multiplier, round_terms


def check_terms(terms: RoundTerms, settings: Settings) -> None:
    """The terms must be those that this device derives itself from the run's settings.

    The amount of user-level noise is the server's plan; what it costs is checked by the ledger.

    Raises:
        ProtocolError: They are not.
    """
    terms.validate()
    if terms.cohort < MIN_COHORT:
        raise ProtocolError(f"a cohort of {terms.cohort} is below this device's {MIN_COHORT}.")
    if not 1 <= terms.round <= settings.rounds:
        raise ProtocolError(f"round {terms.round} is not one of the run's {settings.rounds}.")
    if bool(terms.noise) != bool(settings.user_epsilon):
        raise ProtocolError(f"user-level noise is {terms.noise:g} levels, against the settings.")
    dimension = adapter_plans(settings)[0].dimension
    place = (terms.run, terms.round, terms.attempt, terms.cohort)
    wanted = round_terms(settings, dimension, *place, noise_multiplier(terms))
    wanted = replace(wanted, log_size=terms.log_size, log_head=terms.log_head)  # checked elsewhere
    if terms.noise:  # rounding in the last place
        wanted = replace(wanted, noise=terms.noise, levels=terms.levels)
    for name in RoundTerms.__dataclass_fields__:
        if getattr(terms, name) != getattr(wanted, name):
            got, fits = getattr(terms, name), getattr(wanted, name)
            raise ProtocolError(f"the terms' {name} is {got}, wanted {fits}.")
