"""Defaults that depend on what is learnt, and under which guarantees."""

from __future__ import annotations

from common.settings.field import Scalar
from common.tasks import TASKS

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


# Tokens are few of a kind and take more rounds than texts; without noise these cost little.
TAGS_WITHOUT_DP: dict[str, Scalar] = {**LABELS_WITHOUT_DP, "rounds": 100, "server_rate": 0.1}
BY_TASK = {"tag": TAGS_WITHOUT_DP}


def defaults(*, task: str, dp: bool, user_epsilon: float) -> dict[str, Scalar]:
    """What differs from the table's defaults for a task under the guarantees that are asked for."""
    if not TASKS[task].speaks:
        return LABELS if dp or user_epsilon else BY_TASK.get(task, LABELS_WITHOUT_DP)
    if dp:
        return {}
    return USER_LEVEL if user_epsilon else WITHOUT_DP
