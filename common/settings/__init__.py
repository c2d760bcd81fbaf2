"""The settings of a run: nested by what they are about, given by one flat table of names."""

from common.settings.defaults import (
    LABELS,
    LABELS_WITHOUT_DP,
    TAGS_WITHOUT_DP,
    USER_LEVEL,
    WITHOUT_DP,
    defaults,
)
from common.settings.field import Scalar
from common.settings.groups import (
    SHARINGS,
    AdapterSettings,
    EvaluationSettings,
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
from common.settings.settings import GROUPS, TABLE, Settings, from_mapping
from common.settings.vain import require_none_in_vain

MIN_COHORT, MOST_COHORT = 3, 10_000  # members of a secure sum; more were never measured

__all__ = [
    "GROUPS",
    "LABELS",
    "LABELS_WITHOUT_DP",
    "MIN_COHORT",
    "MOST_COHORT",
    "SHARINGS",
    "TABLE",
    "TAGS_WITHOUT_DP",
    "USER_LEVEL",
    "WITHOUT_DP",
    "AdapterSettings",
    "EvaluationSettings",
    "ModelSettings",
    "PersonalSettings",
    "RecordLevel",
    "RoundSettings",
    "Scalar",
    "Settings",
    "SimulationSettings",
    "SumSettings",
    "TaskSettings",
    "TrainingSettings",
    "UserLevel",
    "defaults",
    "from_mapping",
    "require_none_in_vain",
]
