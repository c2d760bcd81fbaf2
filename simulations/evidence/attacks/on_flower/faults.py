"""Against Flower: a drop-out at the wrong time, and messages that are not what they should be."""

from __future__ import annotations

import numpy as np
from flwr.common.secure_aggregation.ndarrays_arithmetic import parameters_addition, parameters_mod
from flwr.common.secure_aggregation.secaggplus_constants import Stage

from simulations.evidence.attacks.measure import (
    DIMENSION,
    AttackOutcome,
    RefusalsSeen,
    likeness,
    synthetic_update,
)
from simulations.evidence.attacks.on_flower.round import (
    MEMBERS,
    MOD_RANGE,
    THRESHOLD,
    VICTIM,
    Masked,
    Revealed,
    everyone,
    read,
    rebuilt,
    strip,
)
from simulations.evidence.attacks.on_flower.workflow import run_workflow


def dropped_before_sharing() -> AttackOutcome:
    """A member sends its keys and is never heard of again."""
    dropped = MEMBERS[-1]
    seen = run_workflow(everyone(), lost=lambda n, stage: n == dropped and stage != Stage.SETUP)
    kinds = sorted({type(error).__name__ for error in seen.raised.values()})
    text = f"{len(seen.raised)} of {len(MEMBERS) - 1} members raised {' and '.join(kinds)}"
    ended = "no sum" if seen.mean is None else "sum taken"
    measured = {"members_raised": len(seen.raised), "sums": float(seen.mean is not None)}
    return AttackOutcome(seen.mean is None, f"{text}; {ended}", measured)


def malformed_messages() -> AttackOutcome:
    """The victim is sent a cut share, then one share twice; a peer, one survivor five times."""
    members = everyone()
    keys = {node: member.setup() for node, member in members.items()}
    sealed = {node: member.share(keys) for node, member in members.items()}
    inbox = {n: [(p, sealed[p][n]) for p in MEMBERS if p != n] for n in MEMBERS}
    (peer, first), *others = inbox[VICTIM]
    cut = RefusalsSeen(Exception)
    cut.ask(members[VICTIM].mask, [(peer, first[:-8]), *others])
    inbox[VICTIM].append((peer, first))
    masked = {node: member.mask(inbox[node]) for node, member in members.items()}
    named = members[peer].unmask([VICTIM] * THRESHOLD, []).seeds
    error = _error_of_sum(masked, [members[n].unmask(MEMBERS, []) for n in MEMBERS if n != peer])
    text = (
        f"cut share: {cut}; one share twice: taken, sum off by a factor of {error:.0f}; "
        f"one survivor named {THRESHOLD} times: taken"
    )
    accepted = int(error > 1) + int(set(named) == {VICTIM})
    measured = {"accepted": accepted, "refused": cut.refused, "sum_relative_error": error}
    return AttackOutcome(accepted > 0, text, measured)


def _error_of_sum(masked: dict[int, Masked], revealed: list[Revealed]) -> float:
    """Relative error of the mean that an honest server takes."""
    total: Masked = [np.zeros(1, np.int64), np.zeros(DIMENSION, np.int64)]
    for node, vector in masked.items():
        seed = rebuilt([shares.seeds[node] for shares in revealed])
        total = parameters_addition(total, strip(vector, node, seed, {}))
    mean = read(parameters_mod(total, MOD_RANGE), len(masked))
    true = np.mean([synthetic_update(node) for node in masked], axis=0)
    return likeness(true, mean)["relative_error"]
