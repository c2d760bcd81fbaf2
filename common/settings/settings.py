"""All settings of a run together: nested in the code, one flat table for everybody else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from common.errors import InputError
from common.settings.field import Scalar, name_of
from common.settings.groups import (
    AdapterSettings,
    EvaluationSettings,
    Group,
    ModelSettings,
    PersonalSettings,
    RecordLevel,
    RoundSettings,
    SimulationSettings,
    SumSettings,
    TaskSettings,
    TrainingSettings,
    UserLevel,
)
from common.tasks import task_of

GROUPS: dict[str, type[Group]] = {
    "simulation": SimulationSettings,
    "task": TaskSettings,
    "model": ModelSettings,
    "rounds": RoundSettings,
    "record": RecordLevel,
    "user": UserLevel,
    "evaluation": EvaluationSettings,
    "adapter": AdapterSettings,
    "training": TrainingSettings,
    "personal": PersonalSettings,
    "sum": SumSettings,
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a setting is in `Settings`."""

    group: str
    field: dataclasses.Field[Any]


TABLE: dict[str, Setting] = {
    name_of(field): Setting(group, field)
    for group, kind in GROUPS.items()
    for field in dataclasses.fields(kind)  # type: ignore[arg-type]
}


@dataclass(frozen=True, slots=True)
class Settings:
    """One run's settings. A function takes the group that it needs, or all to hand them on."""

    simulation: SimulationSettings = SimulationSettings()  # noqa: RUF009
    task: TaskSettings = TaskSettings()  # noqa: RUF009
    model: ModelSettings = ModelSettings()  # noqa: RUF009
    rounds: RoundSettings = RoundSettings()  # noqa: RUF009
    record: RecordLevel = RecordLevel()  # noqa: RUF009
    user: UserLevel = UserLevel()  # noqa: RUF009
    evaluation: EvaluationSettings = EvaluationSettings()  # noqa: RUF009
    adapter: AdapterSettings = AdapterSettings()  # noqa: RUF009
    training: TrainingSettings = TrainingSettings()  # noqa: RUF009
    personal: PersonalSettings = PersonalSettings()  # noqa: RUF009
    sum: SumSettings = SumSettings()  # noqa: RUF009

    def __post_init__(self) -> None:
        task_of(self.task)
        if self.record.dp and self.evaluation.epsilon >= self.record.epsilon:
            problem = f"--evaluation-epsilon {self.evaluation.epsilon:g} is part of --epsilon"
            problem += f" {self.record.epsilon:g} and leaves nothing to learn with."
            raise InputError(problem, "Lower the one or raise the other.")

    @classmethod
    def of(cls, **values: Scalar) -> Self:
        """Settings by the names that people give them; what is not given has its default.

        Raises:
            InputError: For an unknown name or a value out of bounds.
        """
        found: dict[str, dict[str, Scalar]] = {group: {} for group in GROUPS}
        for name, value in values.items():
            setting = _setting(name)
            found[setting.group][setting.field.name] = value
        return cls(**{group: kind(**found[group]) for group, kind in GROUPS.items()})  # type: ignore[arg-type]

    def but(self, **values: Scalar) -> Self:
        """These settings, but for some, by the names that people give them.

        Raises:
            InputError: As `of`.
        """
        return self.of(**(self.to_dict() | values))

    def to_dict(self) -> dict[str, Scalar]:
        """All settings as plain scalars, by the names that people give them."""
        return {
            name: getattr(getattr(self, setting.group), setting.field.name)
            for name, setting in TABLE.items()
        }

    def digest(self) -> str:
        """SHA-256, hex, of all that server and members must agree on.

        Places, engines and what a device does for itself are not part of it.
        """
        values = self.to_dict()
        agreed = {n: values[n] for n, setting in TABLE.items() if setting.field.metadata["binding"]}
        return hashlib.sha256(json.dumps(agreed, sort_keys=True).encode()).hexdigest()


def _setting(name: str) -> Setting:
    if name not in TABLE:
        raise InputError(f"Unknown setting {name!r}.", "See `privity-sim run --help`.")
    return TABLE[name]


def from_mapping(values: Mapping[str, Any]) -> Settings:
    """Settings from a flat mapping such as Flower's run configuration.

    Keys may use `-` or `_`; a whole number is taken for a float setting; keys with a dot belong
    to others and are passed over.

    Raises:
        InputError: For an unknown key or a value of the wrong type.
    """
    known: dict[str, Scalar] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if "." not in name:
            known[name] = _coerce(key, value, type(_setting(name).field.default))
    return Settings.of(**known)


def _coerce(key: str, value: Any, wanted: type) -> Any:
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        problem = f"Setting {key!r} is a {type(value).__name__}, wanted {wanted.__name__}."
        raise InputError(problem)
    return value
