"""Every setting of a run, once, by what it is about: default, help text, bounds.

The command lines, `privity.toml`, Flower's run configuration, the documentation and `report.json`
are all made from these classes, where each setting has the one name that `field.name_of` gives.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from common.errors import InputError
from common.models import DEFAULT_MODEL, DEVICES
from common.settings.field import name_of, option, require_within, setting
from common.tasks import TASKS

SHARINGS = ("ffa", "fedsa", "lora")
ENGINES = ("local", "flower")
RULES = ("fedavg", "fedadam")
OPTIMIZERS = ("sgd", "adamw")
ACCOUNTANTS = ("prv", "rdp")
MODULUS_BITS = (16, 24, 32)
DTYPES = ("float32", "bfloat16")


class Group:
    """Settings about one thing; every value is within its bounds.

    Attributes:
        ABOUT: What they are about, as `--help` heads them.
    """

    __slots__ = ()
    ABOUT: ClassVar[str]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            require_within(option(name_of(field)), field.metadata, value)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@dataclass(frozen=True, slots=True)
class SimulationSettings(Group):
    """What only a simulation has: its people, and what happens to them."""

    ABOUT: ClassVar[str] = "simulation"

    scenario: str = setting(
        "chat", "built-in data set; `privity-sim scenarios` lists them",
        binding=False, operators=False,
    )  # fmt: skip
    data: str = setting(
        "", "folder with one <user>.jsonl per person, instead of a scenario",
        binding=False, operators=False,
    )  # fmt: skip
    engine: str = setting(
        "local", "what runs the two Flower apps", choices=ENGINES, binding=False, operators=False
    )
    dropout: float = setting(
        0.0, "share of clients lost each round, at random stages", low=0, high=1, operators=False
    )
    pooled: bool = setting(
        False,
        "compare with the same model trained on everybody's examples in one place, no privacy",
        binding=False,
        operators=False,
    )
    out: str = setting("", "folder of the run's results", binding=False, operators=False)


@dataclass(frozen=True, slots=True)
class TaskSettings(Group):
    """What is learnt (common/tasks)."""

    ABOUT: ClassVar[str] = "task"

    name: str = setting("chat", "what is learnt", name="task", choices=TASKS)
    labels: str = setting("", "labels or kinds of entities to tell apart, with | between them")


@dataclass(frozen=True, slots=True)
class ModelSettings(Group):
    """The frozen model (common/models)."""

    ABOUT: ClassVar[str] = "model"

    name: str = setting(
        DEFAULT_MODEL,
        "model of the GPT or the BERT kind: built-in name, folder or hub id",
        name="model",
    )
    dtype: str = setting("float32", "precision of the frozen base", choices=DTYPES)
    device: str = setting(
        "auto",
        "what runs the model; auto takes a CUDA device where there is one",
        choices=DEVICES,
        binding=False,
        operators=False,
    )


@dataclass(frozen=True, slots=True)
class RoundSettings(Group):
    """Who takes part in how many rounds, with how many examples."""

    ABOUT: ClassVar[str] = "rounds"

    users: int = setting(8, "people who take part; 0: all there are", low=0)
    cohort: int = setting(0, "expected people per round (Poisson sampling); 0: all", low=0)
    count: int = setting(3, "federated rounds", name="rounds", low=1, high=10_000)
    examples: int = setting(
        48, "training examples of one person that a round expects, at most", low=2
    )
    seed: int = setting(
        0, "seed of people, adapters, sampling, noise and keys", low=0, high=2**63, operators=False
    )
    deadline_s: float = setting(
        600.0, "seconds a stage waits for its clients", above=0, high=1e8, binding=False
    )

    def __post_init__(self) -> None:
        Group.__post_init__(self)
        if self.users and self.cohort > self.users:
            problem = f"--cohort {self.cohort} is more than the {self.users} users."
            raise InputError(problem, "Lower --cohort or raise --users.")

    @property
    def cohort_rate(self) -> float:
        """Chance of a device to be in a round's cohort; 1 when all take part."""
        return min(1.0, self.cohort / self.users) if self.cohort and self.users else 1.0


@dataclass(frozen=True, slots=True)
class RecordLevel(Group):
    """Differential privacy of one example on one device (common/privacy/accountant.py)."""

    ABOUT: ClassVar[str] = "record level: one example"

    dp: bool = setting(True, "record-level differential privacy (DP-SGD on the device)")
    epsilon: float = setting(8.0, "ε of one example on one device, for the whole run", above=0)
    delta: float = setting(1e-5, "δ that goes with ε", above=0, high=0.1)
    accountant: str = setting(
        "prv", "how ε is added up: exactly where possible, with PRV; or Rényi", choices=ACCOUNTANTS
    )
    max_grad_norm: float = setting(
        0.1, "C, clipping bound of one example's gradient", low=1e-6, high=1e6
    )
    sample_rate: float = setting(1.0, "q, chance of an example in a step", above=0, high=1)


@dataclass(frozen=True, slots=True)
class UserLevel(Group):
    """Differential privacy of a whole person (common/privacy/user_level.py)."""

    ABOUT: ClassVar[str] = "user level: a whole person"

    epsilon: float = setting(
        0.0,
        "ε of all that one person contributes, for the whole run; 0: no such guarantee",
        name="user_epsilon",
        low=0,
    )
    delta: float = setting(
        1e-5, "δ that goes with the person's ε", name="user_delta", above=0, high=0.1
    )
    clip: float = setting(
        0.05,
        "largest L2 norm of one person's update with --user-epsilon",
        name="user_clip",
        low=1e-6,
        high=1e6,
    )


@dataclass(frozen=True, slots=True)
class EvaluationSettings(Group):
    """The federated evaluation, on held-out examples (common/privacy/evaluation.py)."""

    ABOUT: ClassVar[str] = "evaluation"

    epsilon: float = setting(
        0.0,
        "ε of one held-out example for all evaluations of the run; 0: no evaluation",
        name="evaluation_epsilon",
        low=0,
    )
    range: float = setting(
        2.0,
        "most that one held-out example counts in an evaluation, in nats",
        name="evaluation_range",
        above=0,
        high=1e6,
    )


@dataclass(frozen=True, slots=True)
class AdapterSettings(Group):
    """The shape of the shared adapter, and what of it is sent (common/adapter)."""

    ABOUT: ClassVar[str] = "shared adapter"

    sharing: str = setting("ffa", "what is sent: B, A, or both", choices=SHARINGS)
    rank: int = setting(1, "rank of the shared adapter", low=1, high=4096)
    head_rank: int = setting(
        0, "rank of the head of labels; 0: as wide as the model", low=0, high=4096
    )
    modules: str = setting("v_proj", "modules that carry the shared adapter, comma-separated")
    layers: int = setting(10, "upper layers that carry the adapters; 0: all", low=0)

    @property
    def module_names(self) -> tuple[str, ...]:
        """Modules of the shared adapter."""
        return _names(self.modules)


@dataclass(frozen=True, slots=True)
class TrainingSettings(Group):
    """How the shared adapter is trained: on devices, and what the server makes of their mean."""

    ABOUT: ClassVar[str] = "training of the shared adapter"

    optimizer: str = setting("sgd", "local optimiser of the shared part", choices=OPTIMIZERS)
    local_steps: int = setting(1, "local steps in one round", low=1, high=10_000)
    learning_rate: float = setting(1.0, "local learning rate of the shared part", above=0, high=1e6)
    weight_decay: float = setting(0.0, "L2 weight decay of both adapters", low=0, high=1e6)
    rule: str = setting("fedadam", "how the server uses the mean update", choices=RULES)
    server_rate: float = setting(0.35, "the server's learning rate", above=0, high=1e6)


@dataclass(frozen=True, slots=True)
class PersonalSettings(Group):
    """The personal adapter, which never leaves its device."""

    ABOUT: ClassVar[str] = "personal adapter"

    rank: int = setting(
        8, "rank of the personal adapter",
        name="personal_rank", low=1, high=4096, binding=False, operators=False,
    )  # fmt: skip
    modules: str = setting(
        "q_proj,v_proj", "modules of the personal adapter",
        name="personal_modules", binding=False, operators=False,
    )  # fmt: skip
    epochs: int = setting(
        1, "passes over the person's examples",
        name="personal_epochs", low=0, high=100_000, binding=False, operators=False,
    )  # fmt: skip
    rate: float = setting(
        1e-2, "AdamW learning rate of the personal adapter",
        name="personal_rate", above=0, high=1e6, binding=False, operators=False,
    )  # fmt: skip
    batch: int = setting(
        8, "examples in one personal step",
        name="personal_batch", low=1, binding=False, operators=False,
    )  # fmt: skip

    @property
    def module_names(self) -> tuple[str, ...]:
        """Modules of the personal adapter."""
        return _names(self.modules)


@dataclass(frozen=True, slots=True)
class SumSettings(Group):
    """The secure sum: what it tolerates, and the numbers in it (common/secagg)."""

    ABOUT: ClassVar[str] = "secure sum"

    tolerated_losses: float = setting(
        0.25, "share of a cohort that a round can lose", low=0, high=0.45
    )
    tolerated_corrupt: float = setting(
        0.05, "share of a cohort that may collude with the server", low=0.05, high=0.45
    )
    modulus_bits: int = setting(24, "bits of a masked coordinate", choices=MODULUS_BITS)
    update_range: float = setting(
        0.05, "largest sent coordinate; beyond it is clipped", above=0, high=1e6
    )
