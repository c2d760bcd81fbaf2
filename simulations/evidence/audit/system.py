"""What is audited: the product's own functions, where a broken variant can take their place.

A device is made with the system's steps and ledger; nothing else is between a person's data and
what leaves. The secure sum is taken in the clear where only its value matters: it equals the plain
sum bit for bit, which the tests of `common/secagg` show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from client.federation.steps import SOUND as STEPS
from client.federation.steps import Steps
from client.vault.ledger import Ledger
from common.learning.backbone import Backbone
from common.privacy.randomness import Random
from common.rounds.round_terms import user_rho
from common.secagg import RoundTerms
from common.settings import RoundSettings, Settings, UserLevel
from common.tasks import TASKS
from server.round.noise_plan import plan_noise
from simulations.devices import SeededRandomness
from simulations.evidence.audit.findings import SOUND

LABELS = "first|second|third"  # of a task that has labels
AUDITOR = -2  # whose randomness the audit's own coins, people and secrets come from


@dataclass(frozen=True, slots=True)
class System:
    """The sound system by default.

    Attributes:
        name: `sound`, or the variant's.
        steps: What every device's round is made of.
        ledger: The kind of ledger that every device keeps.
        plan_noise: On the server: the noise multiplier of the next round, by what was spent.
        user_rho: On the server: what a round costs each person, as zCDP ρ.
        task: What its devices learn.
    """

    name: str = SOUND
    steps: Steps = STEPS
    ledger: type[Ledger] = Ledger
    plan_noise: Callable[[RoundSettings, UserLevel, Sequence[float], int], float] = plan_noise
    user_rho: Callable[[RoundTerms], float] = user_rho
    task: str = Settings().task.name

    def learning(self, settings: Settings) -> Settings:
        """These settings for the task that is audited, with labels where it has any."""
        labels = "" if TASKS[self.task].speaks else LABELS
        return settings.but(task=self.task, labels=labels)

    def on(self, backbone: Backbone) -> System:
        """The same system, whose devices all have this model."""
        return replace(self, steps=replace(self.steps, backbone=lambda _settings: backbone))


def stream(seed: int, purpose: str) -> Random:
    """Repeatable bytes for one purpose of an audit."""
    return SeededRandomness(seed, AUDITOR).stream(purpose)


def coins(count: int, random: Random) -> NDArray[np.bool_]:
    """Independent fair coins: [count]."""
    drawn = np.frombuffer(random(-(-count // 8)), dtype=np.uint8)
    return np.unpackbits(drawn, count=count).astype(np.bool_)
