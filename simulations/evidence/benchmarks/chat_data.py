"""People with held-out answers and the adapters that were fitted for them, without privacy noise.

The shared adapter is one round's local steps on everybody's answers together, the personal one
`train_personal` on top: what matters here is that both have an effect that can be measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from client.assistant.engine import Loaded
from client.learning.training import train_personal, train_shared
from common.adapter.weights import Shared, whole
from common.learning.backbone import backbone_for
from common.settings import WITHOUT_DP, Settings, from_mapping
from common.tasks.task import Encoded
from simulations import devices

DATA = "chitchat-dataset (MIT), held-out answers"


@dataclass(frozen=True, slots=True)
class Person:
    """Held-out examples of one person, and both adapters by name."""

    heldout: list[Encoded] = field(repr=False)
    adapters: dict[str, Loaded] = field(repr=False)


def settings_for(people: int) -> Settings:
    """The defaults without DP: a larger shared adapter and more steps."""
    return from_mapping({"users": people, "dp": False, **WITHOUT_DP})


def people(settings: Settings, heldout: int) -> Iterator[Person]:
    """Each person with at most that many held-out answers."""
    backbone = backbone_for(settings)
    users = list(devices.people(settings))
    turns = {user: devices.examples(settings, user) for user in users}
    everybody = [turn for train, _ in turns.values() for turn in train]
    random = devices.SeededRandomness(settings.rounds.seed, 0)
    start = Shared(backbone.shared, backbone.shared.initial(backbone.shared.sent))
    trained = train_shared(
        backbone, start, None, backbone.prepared(everybody), settings, None, random.stream("shared")
    )
    shared = whole(Shared(backbone.shared, trained.sent))
    for user in users:
        train, held = turns[user]
        personal, _ = train_personal(
            backbone,
            backbone.prepared(train),
            settings.personal,
            settings.training,
            random.stream("personal"),
            shared=shared,
        )
        yield Person(
            [backbone.encode(example) for example in held[:heldout]],
            {
                "shared": Loaded(backbone.shared, shared),
                "personal": Loaded(personal.plan, personal.vector),
            },
        )
