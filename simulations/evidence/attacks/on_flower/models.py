"""Against Flower: another model for each member.

Nothing in Flower's masks depends on the model, so a sum of one update and zeros unmasks as any
other does.
"""

from __future__ import annotations

from simulations.evidence.attacks import networks
from simulations.evidence.attacks.measure import AttackOutcome, Guess, reconstruction
from simulations.evidence.attacks.on_flower.round import MEMBERS, VICTIM, FlowerMember
from simulations.evidence.attacks.on_flower.workflow import run_workflow


def different_models() -> AttackOutcome:
    """Everybody but the victim is given a network whose hidden units never fire."""
    members = {node: _member(node) for node in MEMBERS}
    seen = run_workflow(members, lambda node: networks.model(dead=node != VICTIM))
    assert seen.mean is not None
    total = seen.mean * (sum(seen.examples.values()) / seen.examples[VICTIM])
    truth = networks.weight_update(VICTIM, networks.model(dead=False))
    how = f"the other {len(MEMBERS) - 1} updates were zero, the sum was the victim's"
    return reconstruction(truth, total, how)


def _member(node: int) -> FlowerMember:
    def train(given: Guess) -> Guess:
        return networks.weight_update(node, given)

    return FlowerMember(node, train)
