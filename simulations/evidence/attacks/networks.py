"""A small ReLU network, for members that are given different models.

With a bias far below zero no hidden unit fires, so the gradient of the weights is exactly zero on
any data (Pasquini, Francati, Ateniese 2022, https://arxiv.org/abs/2111.07380). Data are synthetic.
"""

from __future__ import annotations

import numpy as np

from simulations.evidence.attacks.measure import DIMENSION, Guess, Update

INPUTS, HIDDEN, EXAMPLES = 16, DIMENSION // 16, 32
DEAD_BIAS = -1e3


def model(*, dead: bool) -> Guess:
    """Weights [INPUTS, HIDDEN] and biases [HIDDEN], flat; `dead` silences every hidden unit."""
    draws = np.random.default_rng(0)
    weights = draws.normal(0.0, INPUTS**-0.5, DIMENSION)
    return np.concatenate([weights, np.full(HIDDEN, DEAD_BIAS if dead else 0.0)])


def weight_update(member: int, given: Guess) -> Update:
    """One gradient step of the member on its synthetic data: [INPUTS * HIDDEN]."""
    draws = np.random.default_rng(1000 + member)
    inputs = draws.normal(0.0, 1.0, (EXAMPLES, INPUTS))
    targets = draws.normal(0.0, 1.0, EXAMPLES)
    weights, biases = given[:DIMENSION].reshape(INPUTS, HIDDEN), given[DIMENSION:]
    before = inputs @ weights + biases  # [examples, hidden]
    errors = np.maximum(before, 0.0).mean(axis=1) - targets  # the mean is the output layer
    gradient = inputs.T @ (errors[:, None] * (before > 0)) / EXAMPLES
    update: Update = (-0.5 * gradient.reshape(-1)).astype(np.float32)
    return update
