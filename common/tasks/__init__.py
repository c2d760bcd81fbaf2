"""What can be learnt: one file a task, and one line here."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from common.tasks import labels
from common.tasks.chat import Chat
from common.tasks.classify import Classify
from common.tasks.tag import Tag
from common.tasks.task import Metric, Task

TASKS: dict[str, Task] = {task.name: task for task in (Chat(), Classify(), Tag())}


class Named(Protocol):
    """Settings that say which task, and among which labels."""

    @property
    def name(self) -> str:
        """A name in `TASKS`."""

    @property
    def labels(self) -> str:
        """The labels as one text, which `common/tasks/labels.py` splits."""


def task_of(settings: Named) -> Task:
    """The task of these settings, for their labels.

    Raises:
        InputError: The task cannot work with these labels.
    """
    return _among(TASKS[settings.name], settings.labels)


@lru_cache(maxsize=16)
def _among(task: Task, setting: str) -> Task:
    return task.among(labels.split(setting))


def metric_named(name: str) -> Metric | None:
    """The metric of this name, which means the same in every task; None where no task has it."""
    known = (metric for task in TASKS.values() for metric in task.metrics)
    return next((metric for metric in known if metric.name == name), None)
