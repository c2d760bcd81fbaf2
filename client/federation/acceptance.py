"""What a device accepts as the terms of a round."""

from __future__ import annotations

from dataclasses import replace
from math import isqrt

from common.errors import ProtocolError
from common.learning.backbone import adapter_plans
from common.rounds.round_terms import noise_multiplier, round_terms
from common.secagg import RoundTerms
from common.settings import MIN_COHORT, MOST_COHORT, Settings

MOST_ATTEMPTS = 2**31  # at one round


def check_terms(terms: RoundTerms, settings: Settings) -> None:
    """The terms must be those that this device derives itself from the run's settings.

    The amount of user-level noise is the server's plan; what it costs is checked by the ledger.

    Raises:
        ProtocolError: They are not.
    """
    terms.validate()
    for name, least, most in (
        ("cohort", MIN_COHORT, MOST_COHORT),  # before the graph of a million members is computed
        ("round", 1, settings.rounds.count),
        ("attempt", 0, MOST_ATTEMPTS),
    ):
        if not least <= (value := getattr(terms, name)) <= most:
            raise ProtocolError(f"the terms' {name} is {value}, not in {least} to {most}.")
    if bool(terms.noise) != bool(settings.user.epsilon):
        raise ProtocolError(f"user-level noise is {terms.noise:g} levels, against the settings.")
    dimension = adapter_plans(settings)[0].dimension
    place = (terms.run, terms.round, terms.attempt, terms.cohort)
    plain = round_terms(settings, dimension, *place)
    plain = replace(plain, log_size=terms.log_size, log_head=terms.log_head)  # checked elsewhere
    if terms.noise:  # everything else first: what the noise amounts to depends on the graph
        plain = replace(plain, clip=terms.clip, levels=terms.levels, noise=terms.noise)
    _require_same(terms, plain)
    if terms.noise:
        if terms.levels < isqrt(dimension):
            problem = f"with {terms.levels} levels, an update of {dimension} coordinates is rounded"
            raise ProtocolError(f"{problem} to nothing and would be paid for all the same.")
        wanted = round_terms(settings, dimension, *place, noise_multiplier(terms))
        wanted = replace(wanted, log_size=terms.log_size, log_head=terms.log_head)
        if abs(terms.levels - wanted.levels) <= 1:  # rounding in the last place
            wanted = replace(wanted, noise=terms.noise, levels=terms.levels)
        _require_same(terms, wanted)


def _require_same(terms: RoundTerms, wanted: RoundTerms) -> None:
    for name in RoundTerms.__dataclass_fields__:
        if getattr(terms, name) != getattr(wanted, name):
            got, fits = getattr(terms, name), getattr(wanted, name)
            raise ProtocolError(f"the terms' {name} is {got}, wanted {fits}.")
