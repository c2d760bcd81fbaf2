"""A small federation of made-up people, trained in the clear for what an attacker may ask of it.

One person's records hold secrets as well. The product's own functions train, charge and combine;
the mean is taken of plain updates, which the secure sum gives bit for bit after rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from client.learning.training import train_personal
from common.adapter.plan import Vector
from common.adapter.weights import Shared, whole
from common.learning.backbone import Backbone, Prepared, adapter_plans
from common.privacy.accountant import Release
from common.settings import WITHOUT_DP, Settings, from_mapping
from common.tasks import task_of
from server.registry.registry import RuleState
from server.round.aggregation import apply
from simulations.evidence.audit.canaries import MODULES
from simulations.evidence.audit.people import examples_of, talk
from simulations.evidence.audit.scale import CLAIMED_EPSILON, DELTA
from simulations.evidence.audit.secrets_inserted import Secret, secrets_of
from simulations.evidence.audit.system import System, stream

PEOPLE, EXAMPLES, ROUNDS = 3, 32, 6
# Enough training for a model of nine thousand weights to remember something.
PERSONAL_EPOCHS, PERSONAL_RATE = 20, 2e-2
OPEN = {"rounds": 10, "local_steps": 10, "sample_rate": 0.3, "learning_rate": 2.5e-2}


@dataclass(frozen=True, slots=True)
class Federation:
    """People and what the audit knows about them.

    Attributes:
        members: Each person's ordinary training examples.
        strangers: Examples from the same source that nobody trained on.
        secrets: In the records of person 0, each as often as it says.
    """

    backbone: Backbone
    members: list[list[Prepared]]
    strangers: list[Prepared]
    secrets: tuple[Secret, ...]
    seed: int

    @classmethod
    def of(cls, system: System, strangers: int, seed: int) -> Federation:
        """A new one, nothing trained."""
        settings = system.learning(private_settings())
        backbone = Backbone(
            task_of(settings.task),
            settings.model.name,
            *adapter_plans(settings),
            settings.model.dtype,
        )
        chance = talk(seed, "federation/talk")
        members = [
            backbone.prepared(examples_of(chance, EXAMPLES, settings.task)) for _ in range(PEOPLE)
        ]
        unseen = backbone.prepared(examples_of(chance, strangers, settings.task))
        secrets = secrets_of(seed) if backbone.task.speaks else ()
        return cls(backbone, members, unseen, secrets, seed)

    def examples(self, person: int) -> list[Prepared]:
        """All that a person trains on."""
        if person:
            return self.members[person]
        inserted = [
            secret.said(self.backbone.task) for secret in self.secrets for _ in range(secret.times)
        ]
        return [*self.members[0], *self.backbone.prepared(inserted)]

    def train_shared(self, system: System, settings: Settings) -> Vector:
        """Run all rounds; A and B of the shared adapter."""
        plan = self.backbone.shared
        published: Vector = plan.initial(plan.sent)
        rule = RuleState.fresh(plan.dimension)
        ledgers: list[list[Release]] = [[] for _ in self.members]
        for number in range(1, settings.rounds.count + 1):
            updates = [
                self._update(system, settings, ledger, published, number, person)
                for person, ledger in enumerate(ledgers)
            ]
            published, rule = apply(settings.training, rule, published, mean_of(updates))
        return whole(Shared(plan, published))

    def train_personal(self, person: int, shared: Vector) -> Vector:
        """Fit a person's own adapter on the shared one; its A and B."""
        settings, random = private_settings(), stream(self.seed, f"federation/personal/{person}")
        examples = self.examples(person)
        return train_personal(
            self.backbone, examples, settings.personal, settings.training, random, shared=shared
        )[0].vector

    def _update(
        self,
        system: System,
        settings: Settings,
        ledger: list[Release],
        published: Vector,
        number: int,
        person: int,
    ) -> Vector:
        release = None
        if settings.record.dp:
            release = system.steps.next_release(ledger, settings, number)
            ledger.append(release)
        random = stream(self.seed, f"federation/{settings.record.dp}/{person}/{number}")
        shared = Shared(self.backbone.shared, published)
        given = self.backbone, shared, None, self.examples(person), settings, release, random
        trained = system.steps.train_shared(*given, steps=system.steps.private)
        return trained.sent - published


def mean_of(updates: list[Vector]) -> Vector:
    """The mean update: [dimension]."""
    return np.asarray(np.mean(updates, axis=0, dtype=np.float64), dtype=np.float32)


def private_settings() -> Settings:
    """The product's training with DP at the claimed ε, on a model large enough to remember."""
    return Settings.of(
        model="tiny",
        modules=MODULES,
        personal_modules=MODULES,
        layers=0,
        rank=8,
        users=PEOPLE,
        rounds=ROUNDS,
        epsilon=CLAIMED_EPSILON,
        delta=DELTA,
        examples=3 * EXAMPLES,
        server_rate=0.1,
        personal_epochs=PERSONAL_EPOCHS,
        personal_rate=PERSONAL_RATE,
    )


def open_settings() -> Settings:
    """The product's training without DP."""
    changed = {
        **private_settings().to_dict(),
        **WITHOUT_DP,
        "dp": False,
        "modules": MODULES,
        **OPEN,
    }
    return from_mapping(changed)
