"""What the trained adapters remember: membership and secrets, for each of three adapters.

The shared adapter with DP makes a promise. Without DP it makes none and shows what the attacks can
see. The personal adapter is fitted without noise and remembers: it never leaves its device, so
this attacker is somebody who holds the device.
"""

from __future__ import annotations

import numpy as np

from common.adapter.plan import Vector
from common.learning.backbone import Prepared
from simulations.evidence.audit.exposure import exposure_finding, exposures
from simulations.evidence.audit.federation import Federation, open_settings, private_settings
from simulations.evidence.audit.findings import Finding
from simulations.evidence.audit.member_inference import (
    Scores,
    Separation,
    mean_losses,
    membership_finding,
    separation,
)
from simulations.evidence.audit.scale import Scale
from simulations.evidence.audit.system import System

NEVER_SENT = "nothing: it never leaves the device"


def memories(system: System, scale: Scale, seed: int) -> list[Finding]:
    """Shared with DP, assistant, shared without DP; of each, both attacks where it speaks."""
    federation = Federation.of(system, scale.strangers, seed)
    found = []
    shared = federation.train_shared(system, system.learning(private_settings()))
    found += _shared(federation, shared, system.name, "shared adapter", claim=True)
    found += _assistant(federation, shared, system.name)
    shared = federation.train_shared(system, system.learning(open_settings()))
    found += _shared(federation, shared, system.name, "shared adapter without DP", claim=False)
    return found


def _shared(
    federation: Federation, shared: Vector, system: str, against: str, *, claim: bool
) -> list[Finding]:
    backbone = federation.backbone
    everybody = [example for person in federation.members for example in person]
    members, strangers = (
        _gains(federation, examples, shared) for examples in (everybody, federation.strangers)
    )
    found = [membership_finding(system, against, separation(members, strangers), claim=claim)]
    if backbone.task.speaks:
        known = exposures(backbone, federation.secrets, shared)
        found.append(exposure_finding(system, against, known, claim=claim))
    return found


def _assistant(federation: Federation, shared: Vector, system: str) -> list[Finding]:
    """Each person's assistant against their own examples and an equal part of the strangers."""
    people = range(len(federation.members))
    parts = np.array_split(np.arange(len(federation.strangers)), len(people))
    members, strangers = list[Scores](), list[Scores]()
    personal = shared
    for person in reversed(people):  # the one with the secrets last
        personal = federation.train_personal(person, shared)
        unseen = [federation.strangers[row] for row in parts[person]]
        members.append(_gains(federation, federation.members[person], shared, personal))
        strangers.append(_gains(federation, unseen, shared, personal))
    told: Separation = separation(np.concatenate(members), np.concatenate(strangers))
    against = "personal adapter"
    found = [membership_finding(system, against, told, claim=False, claimed=NEVER_SENT)]
    if federation.backbone.task.speaks:
        known = exposures(federation.backbone, federation.secrets, shared, personal)
        found.append(exposure_finding(system, against, known, claim=False, claimed=NEVER_SENT))
    return found


def _gains(federation: Federation, examples: list[Prepared], *adapters: Vector) -> Scores:
    """How far the adapters lower each example's loss: [examples]."""
    base = mean_losses(federation.backbone, examples)
    return base - mean_losses(federation.backbone, examples, *adapters)
