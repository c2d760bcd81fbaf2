"""What can be learnt: one file a task, and one line here."""

from __future__ import annotations

from common.tasks.chat import Chat
from common.tasks.task import Metric, Task

TASKS: dict[str, Task] = {task.name: task for task in (Chat(),)}


def metric_named(name: str) -> Metric | None:
    """The metric of this name, which means the same in every task; None where no task has it."""
    known = (metric for task in TASKS.values() for metric in task.metrics)
    return next((metric for metric in known if metric.name == name), None)
