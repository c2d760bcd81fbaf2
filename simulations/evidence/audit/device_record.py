"""Record level against a server that repeats rounds: one device, canaries among its examples.

The statistic is that of `record_level`. Here all five legs are the device's, the sum is a real
secure sum, and how many updates there are is for the device's ledger to decide.
"""

from __future__ import annotations

import numpy as np

from common.settings import Settings
from simulations.evidence.audit.canaries import CanaryBackbone, canary
from simulations.evidence.audit.findings import Finding
from simulations.evidence.audit.one_run import one_run_finding
from simulations.evidence.audit.one_run_record import REAL, canary_settings
from simulations.evidence.audit.people import examples_of, talk
from simulations.evidence.audit.scale import STRENGTH, Scale
from simulations.evidence.audit.small_cohort import Person, SmallCohort
from simulations.evidence.audit.system import System, coins, stream

CHECK = "record level, rounds repeated"
ROUNDS = 1  # of the plan; the server asks for it again and again


def device_record(system: System, scale: Scale, seed: int) -> list[Finding]:
    """Bound ε of one example from all that a server can get out of a device."""
    settings = system.learning(_settings(scale))
    backbone = CanaryBackbone(settings, STRENGTH * settings.record.max_grad_norm)
    included = coins(scale.canaries, stream(seed, "device/coins"))
    real = examples_of(talk(seed, "device/person"), REAL, settings.task)
    person = Person([*real, *(canary(int(c)) for c in np.flatnonzero(included))])
    cohort = SmallCohort(system.on(backbone), settings, [person], seed, "audit/device/record")
    sums = list(cohort.sums(scale.rounds))
    scores = -np.stack(sums)[:, : scale.canaries].sum(axis=0).astype(np.float64)  # descent
    tried = (
        f"{scale.canaries:,} gradient canaries, one planned round, asked for again and again: "
        f"{len(sums)} of {scale.rounds} answered; guess who was in from the sums"
    )
    return [one_run_finding(CHECK, system.name, tried, scores, included)]


def _settings(scale: Scale) -> Settings:
    return canary_settings(scale).but(rounds=ROUNDS)
