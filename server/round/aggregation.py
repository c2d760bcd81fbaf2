"""What the server does with the mean update. Post-processing: it costs no privacy.

FedAvg (McMahan et al. 2017) adds it; FedAdam (Reddi et al. 2021, algorithm 2) takes it for a
gradient.
"""

from __future__ import annotations

import numpy as np

from common.adapter.plan import Vector
from common.settings import TrainingSettings
from server.registry.registry import RuleState

BETA_1, BETA_2, TAU = 0.9, 0.99, 1e-8


def apply(
    training: TrainingSettings, state: RuleState, current: Vector, mean_update: Vector
) -> tuple[Vector, RuleState]:
    """The next shared vector and the rule's next state."""
    if training.rule == "fedavg":
        return current + np.float32(training.server_rate) * mean_update, state
    return _fedadam(training, state, current, mean_update)


def _fedadam(
    training: TrainingSettings, state: RuleState, current: Vector, mean_update: Vector
) -> tuple[Vector, RuleState]:
    steps = state.steps + 1
    first = BETA_1 * state.first + (1 - BETA_1) * mean_update
    second = BETA_2 * state.second + (1 - BETA_2) * mean_update**2
    unbiased_first = first / (1 - BETA_1**steps)
    unbiased_second = second / (1 - BETA_2**steps)
    step = training.server_rate * unbiased_first / (np.sqrt(unbiased_second) + TAU)
    following = (current + step).astype(np.float32)
    return following, RuleState(steps, first.astype(np.float32), second.astype(np.float32))
