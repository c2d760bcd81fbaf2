"""What can be learnt: one file a task, and one line here."""

from __future__ import annotations

from common.tasks.chat import Chat
from common.tasks.task import Metric, Task

TASKS: dict[str, Task] = {task.name: task for task in (Chat(),)}

# A metric's name means the same in every task.
METRICS: dict[str, Metric] = {m.name: m for task in TASKS.values() for m in task.metrics}
