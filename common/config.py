"""Every setting of a run, once: name, default, help text, bounds.

The command line, Flower's run configuration and `report.json` are all made from this one table.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import InputError
from common.models import DEFAULT_MODEL, DEVICES
from common.tasks import TASKS, task_of

SHARINGS = ("ffa", "fedsa", "lora")
ENGINES = ("local", "flower")
RULES = ("fedavg", "fedadam")
OPTIMIZERS = ("sgd", "adamw")
ACCOUNTANTS = ("prv", "rdp")
MODULUS_BITS = (16, 24, 32)
DTYPES = ("float32", "bfloat16")
MIN_COHORT, MOST_COHORT = 3, 10_000  # members of a secure sum; more were never measured

Scalar = bool | int | float | str

# Without noise there is no reason to spare parameters and steps (docs/quality.md).
WITHOUT_DP: dict[str, Scalar] = {
    "rank": 8,
    "modules": "q_proj,v_proj,o_proj,down_proj",
    "optimizer": "adamw",
    "local_steps": 5,
    "learning_rate": 2.5e-2,
    "update_range": 0.5,
    "sample_rate": 0.2,
    "rule": "fedavg",
    "server_rate": 1.0,
}

# With the user-level guarantee alone: the table's own few numbers and single gradient step suit it
# (docs/tried.md); what differs is the bound on a whole update.
USER_LEVEL: dict[str, Scalar] = {"user_clip": 0.04}


# A head of labels learns alone, on what the frozen model says of a text: one whole gradient a
# round, which the server takes for one of everybody's (docs/quality.md, "Labels").
LABELS: dict[str, Scalar] = {
    "modules": "",
    "personal_modules": "",
    "rounds": 8,
    "server_rate": 0.05,
    "personal_epochs": 3,
    "personal_rate": 1e-3,
}
LABELS_WITHOUT_DP: dict[str, Scalar] = {
    **LABELS,
    "rounds": 30,
    "server_rate": 0.03,
    "update_range": 0.5,
}


def defaults(*, task: str, dp: bool, user_epsilon: float) -> dict[str, Scalar]:
    """What differs from the table's defaults for a task under the guarantees that are asked for."""
    if not TASKS[task].speaks:
        return LABELS if dp or user_epsilon else LABELS_WITHOUT_DP
    if dp:
        return {}
    return USER_LEVEL if user_epsilon else WITHOUT_DP


def _setting(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: Collection[Any] = (),
    binding: bool = True,
) -> Any:
    rules = {"low": low, "high": high, "above": above, "choices": choices}
    return dataclasses.field(default=default, metadata={"help": text, "binding": binding, **rules})


# The first setting of each group, in the table's order, and what the group is about.
GROUPS = {
    "scenario": "people and task",
    "rounds": "rounds",
    "dp": "record level: one example",
    "user_epsilon": "user level: a whole person",
    "evaluation_epsilon": "evaluation",
    "sharing": "shared adapter",
    "personal_rank": "personal adapter",
    "dropout": "secure sum",
    "pooled": "simulation",
}


def group_of(name: str) -> str:
    """What the group of a setting is about."""
    about = ""
    for field in dataclasses.fields(Settings):
        about = GROUPS.get(field.name, about)
        if field.name == name:
            return about
    raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Settings:
    """One run's settings. Flat scalars, so that they fit Flower's run configuration."""

    scenario: str = _setting(
        "chat", "built-in data set; `privity-sim scenarios` lists them", binding=False
    )
    data: str = _setting(
        "", "folder with one <user>.jsonl per person, instead of a scenario", binding=False
    )
    task: str = _setting("chat", "what is learnt", choices=TASKS)
    labels: str = _setting("", "labels or kinds of entities to tell apart, with | between them")
    model: str = _setting(
        DEFAULT_MODEL, "model of the GPT or the BERT kind: built-in name, folder or hub id"
    )
    dtype: str = _setting("float32", "precision of the frozen base", choices=DTYPES)
    device: str = _setting(
        "auto",
        "what runs the model; auto takes a CUDA device where there is one",
        choices=DEVICES,
        binding=False,
    )
    users: int = _setting(8, "people who take part; 0: all there are", low=0)
    cohort: int = _setting(0, "expected people per round (Poisson sampling); 0: all", low=0)
    rounds: int = _setting(3, "federated rounds", low=1, high=10_000)
    examples: int = _setting(
        48, "training examples of one person that a round expects, at most", low=2
    )
    engine: str = _setting("local", "what runs the two Flower apps", choices=ENGINES, binding=False)
    seed: int = _setting(0, "seed of people, adapters, sampling, noise and keys", low=0, high=2**63)

    dp: bool = _setting(True, "record-level differential privacy (DP-SGD on the device)")
    epsilon: float = _setting(8.0, "ε of one example on one device, for the whole run", above=0)
    delta: float = _setting(1e-5, "δ that goes with ε", above=0, high=0.1)
    accountant: str = _setting(
        "prv", "how ε is added up: exactly where possible, with PRV; or Rényi", choices=ACCOUNTANTS
    )
    max_grad_norm: float = _setting(
        0.1, "C, clipping bound of one example's gradient", low=1e-6, high=1e6
    )
    sample_rate: float = _setting(1.0, "q, chance of an example in a step", above=0, high=1)

    user_epsilon: float = _setting(
        0.0, "ε of all that one person contributes, for the whole run; 0: no such guarantee", low=0
    )
    user_delta: float = _setting(1e-5, "δ that goes with the person's ε", above=0, high=0.1)
    user_clip: float = _setting(
        0.05, "largest L2 norm of one person's update with --user-epsilon", low=1e-6, high=1e6
    )

    evaluation_epsilon: float = _setting(
        0.0, "ε of one held-out example for all evaluations of the run; 0: no evaluation", low=0
    )
    evaluation_range: float = _setting(
        2.0, "most that one held-out example counts in an evaluation, in nats", above=0, high=1e6
    )

    sharing: str = _setting("ffa", "what is sent: B, A, or both", choices=SHARINGS)
    rank: int = _setting(1, "rank of the shared adapter", low=1, high=4096)
    head_rank: int = _setting(
        0, "rank of the head of labels; 0: as wide as the model", low=0, high=4096
    )
    modules: str = _setting("v_proj", "modules that carry the shared adapter, comma-separated")
    layers: int = _setting(10, "upper layers that carry the adapters; 0: all", low=0)
    optimizer: str = _setting("sgd", "local optimiser of the shared part", choices=OPTIMIZERS)
    local_steps: int = _setting(1, "local steps in one round", low=1, high=10_000)
    learning_rate: float = _setting(
        1.0, "local learning rate of the shared part", above=0, high=1e6
    )
    weight_decay: float = _setting(0.0, "L2 weight decay of both adapters", low=0, high=1e6)
    rule: str = _setting("fedadam", "how the server uses the mean update", choices=RULES)
    server_rate: float = _setting(0.35, "the server's learning rate", above=0, high=1e6)

    personal_rank: int = _setting(
        8, "rank of the personal adapter", low=1, high=4096, binding=False
    )
    personal_modules: str = _setting(
        "q_proj,v_proj", "modules of the personal adapter", binding=False
    )
    personal_epochs: int = _setting(
        1, "passes over the person's examples", low=0, high=100_000, binding=False
    )
    personal_rate: float = _setting(
        1e-2, "AdamW learning rate of the personal adapter", above=0, high=1e6, binding=False
    )
    personal_batch: int = _setting(8, "examples in one personal step", low=1, binding=False)

    dropout: float = _setting(
        0.0, "share of clients lost each round, at random stages", low=0, high=1
    )
    tolerated_losses: float = _setting(
        0.25, "share of a cohort that a round can lose", low=0, high=0.45
    )
    tolerated_corrupt: float = _setting(
        0.05, "share of a cohort that may collude with the server", low=0.05, high=0.45
    )
    modulus_bits: int = _setting(24, "bits of a masked coordinate", choices=MODULUS_BITS)
    update_range: float = _setting(
        0.05, "largest sent coordinate; beyond it is clipped", above=0, high=1e6
    )
    pooled: bool = _setting(
        False,
        "compare with the same model trained on everybody's examples in one place, no privacy",
        binding=False,
    )
    deadline_s: float = _setting(
        600.0, "seconds a stage waits for its clients", above=0, high=1e8, binding=False
    )
    out: str = _setting("", "folder of the run's results", binding=False)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        task_of(self)
        if self.users and self.cohort > self.users:
            problem = f"--cohort {self.cohort} is more than the {self.users} users."
            raise InputError(problem, "Lower --cohort or raise --users.")
        if self.dp and self.evaluation_epsilon >= self.epsilon:
            problem = f"--evaluation-epsilon {self.evaluation_epsilon:g} is part of --epsilon"
            problem += f" {self.epsilon:g} and leaves nothing to learn with."
            raise InputError(problem, "Lower the one or raise the other.")

    @property
    def cohort_rate(self) -> float:
        """Chance of a device to be in a round's cohort; 1 when all take part."""
        return min(1.0, self.cohort / self.users) if self.cohort and self.users else 1.0

    @property
    def module_names(self) -> tuple[str, ...]:
        """Modules of the shared adapter."""
        return tuple(name.strip() for name in self.modules.split(",") if name.strip())

    @property
    def personal_module_names(self) -> tuple[str, ...]:
        """Modules of the personal adapter."""
        return tuple(name.strip() for name in self.personal_modules.split(",") if name.strip())

    def to_dict(self) -> dict[str, Scalar]:
        """All settings as plain scalars."""
        return dataclasses.asdict(self)

    def digest(self) -> str:
        """SHA-256, hex, of all that server and members must agree on.

        Places, engines and what a device does for itself are not part of it.
        """
        binding = [field.name for field in dataclasses.fields(self) if field.metadata["binding"]]
        agreed = {name: getattr(self, name) for name in binding}
        return hashlib.sha256(json.dumps(agreed, sort_keys=True).encode()).hexdigest()


def _check(field: dataclasses.Field[Any], value: Any) -> None:
    name = "--" + field.name.replace("_", "-")
    rule = field.metadata
    if rule["choices"] and value not in rule["choices"]:
        known = ", ".join(str(choice) for choice in rule["choices"])
        raise InputError(f"{name} {value!r} is not known.", f"Choose one of: {known}.")
    if isinstance(value, str | bool):
        return
    if not math.isfinite(value):
        raise InputError(f"{name} must be a finite number, not {value}.")
    for key, holds, words in (
        ("above", operator.gt, "greater than"),
        ("low", operator.ge, "at least"),
        ("high", operator.le, "at most"),
    ):
        if rule[key] is not None and not holds(value, rule[key]):
            raise InputError(f"{name} must be {words} {rule[key]:g}, not {value:g}.")


def from_mapping(values: Mapping[str, Any]) -> Settings:
    """Settings from a flat mapping such as Flower's run configuration.

    Keys may use `-` or `_`; a whole number is taken for a float setting; keys with a dot belong
    to others and are passed over.

    Raises:
        InputError: For an unknown key or a value of the wrong type.
    """
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    known: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if "." in name:
            continue
        if name not in fields:
            raise InputError(f"Unknown setting {key!r}.", "See `privity-sim run --help`.")
        known[name] = _coerce(key, value, type(fields[name].default))
    return Settings(**known)


def _coerce(key: str, value: Any, wanted: type) -> Any:
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        problem = f"Setting {key!r} is a {type(value).__name__}, wanted {wanted.__name__}."
        raise InputError(problem)
    return value
