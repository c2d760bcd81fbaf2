"""Which checks an audit runs on which systems, and in what order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from common.errors import InputError
from common.settings import Settings
from common.tasks import TASKS
from simulations.evidence.audit.account import account
from simulations.evidence.audit.device_record import device_record
from simulations.evidence.audit.device_user import device_user
from simulations.evidence.audit.exact_figure import exact_figure, noise_figure
from simulations.evidence.audit.exact_record import exact_record
from simulations.evidence.audit.exact_user import exact_user, noise_user
from simulations.evidence.audit.example_choice import choice
from simulations.evidence.audit.figure import figure
from simulations.evidence.audit.findings import AuditReport, Finding
from simulations.evidence.audit.influence import influence
from simulations.evidence.audit.memories import memories
from simulations.evidence.audit.noise_record import noise_record
from simulations.evidence.audit.one_run_record import record_level
from simulations.evidence.audit.one_run_user import user_level
from simulations.evidence.audit.reconstruction import reconstruction
from simulations.evidence.audit.sampling import sampling
from simulations.evidence.audit.scale import FULL, QUICK, Scale
from simulations.evidence.audit.sums import both_shares, mask_seeds
from simulations.evidence.audit.system import System
from simulations.evidence.audit.variants import VARIANTS

Check = Callable[[System, Scale, int], list[Finding]]
ALL, NONE = "all", "none"
BOTH_LEVELS: tuple[Check, ...] = (record_level, user_level)

# Single faults, by the check that must catch them.
PLANTED_FOR: dict[Check, tuple[str, ...]] = {
    exact_record: (
        "clip-doubled",
        "extra-step",
        "clip-per-layer",
        "clip-per-coordinate",
        "own-divisor",
        "not-a-number",
    ),
    noise_record: ("record-noise-halved", "record-noise-same", "record-noise-16-bits"),
    exact_user: ("user-clip-per-coordinate",),
    noise_user: ("share-noise-halved", "share-noise-same", "share-noise-16-bits"),
    exact_figure: ("figure-lower-clip-off", "figure-own-count"),
    noise_figure: ("figure-noise-off", "figure-noise-16-bits"),
    account: (
        "wrong-delta",
        "retries-uncharged",
        "rho-quartered",
        "rho-quartered-everywhere",
    ),
}
# The checks that must tell each variant from the sound system.
TELLING: dict[str, tuple[Check, ...]] = {
    "noise-off": (*BOTH_LEVELS, figure),
    "clipping-off": BOTH_LEVELS,
    "accountant-reset": (*BOTH_LEVELS, account),
    "ledger-forgets": (device_record, device_user),
    "personal-left-on": (influence,),
    "weak-mask-seed": (mask_seeds,),
    "both-shares": (both_shares,),
    **{name: (check,) for check, names in PLANTED_FOR.items() for name in names},
}
SOUND_ONLY: tuple[Check, ...] = (sampling, choice, memories, reconstruction)
# A user-level run of a few rounds cannot show that a budget was spent again in each.
SLOW = {("accountant-reset", user_level): "accountant-reset at user level, which takes 25 rounds"}


@dataclass(frozen=True, slots=True)
class AuditStep:
    """One check of one system."""

    check: Check
    system: System

    def __str__(self) -> str:
        return f"{self.check.__name__.replace('_', ' ')}, {self.system.name}"


def run_audit(
    *,
    quick: bool = False,
    variant: str = ALL,
    task: str = Settings().task.name,
    seed: int = 0,
    watch: Callable[[str], None] = lambda _step: None,
) -> AuditReport:
    """Audit the sound system and the broken variants.

    Args:
        variant: One broken variant, with only the checks that must catch it; `all`; or `none` for
            the sound system alone.
        task: What the audited devices learn.
        seed: Of canaries, coins, people and noise; the same seed gives the same findings.
        watch: Told what each step of `plan` is, before it begins.

    Raises:
        InputError: There is no such variant, or no such task.
    """
    begin, scale, names = time.monotonic(), QUICK if quick else FULL, _names(variant)
    findings: list[Finding] = []
    for step in plan(quick=quick, variant=variant, task=task):
        watch(str(step))
        findings += step.check(step.system, scale, seed)
    left_out = tuple(words for (name, _), words in SLOW.items() if quick and name in names)
    seconds = round(time.monotonic() - begin, 1)
    return AuditReport(seed, quick, names, tuple(findings), left_out, seconds)


def plan(*, quick: bool, variant: str, task: str = Settings().task.name) -> list[AuditStep]:
    """What `run_audit` does, in order: the sound system first, each check once.

    Raises:
        InputError: There is no such variant.
    """
    if task not in TASKS:
        raise InputError(f"There is no task {task!r}.", f"Choose one of: {', '.join(TASKS)}.")
    names, everything = _names(variant), variant in (ALL, NONE)
    telling = TELLING if everything else {name: TELLING[name] for name in names}
    checks = dict.fromkeys(check for several in telling.values() for check in several)
    sound = [*checks, *(SOUND_ONLY if everything else ())]
    broken = [(name, check) for name in names for check in TELLING[name]]
    return [
        *(AuditStep(check, System(task=task)) for check in sound),
        *(
            AuditStep(check, replace(VARIANTS[name], task=task))
            for name, check in broken
            if not (quick and (name, check) in SLOW)
        ),
    ]


def _names(variant: str) -> tuple[str, ...]:
    if variant == ALL:
        return tuple(VARIANTS)
    if variant == NONE:
        return ()
    if variant not in VARIANTS:
        known = ", ".join((*VARIANTS, ALL, NONE))
        raise InputError(f"There is no variant {variant!r}.", f"Choose one of: {known}.")
    return (variant,)
