"""Against Flower: who is in the round, which the server alone decides.

A Flower client sets no floor on cohort or threshold and takes the neighbours it is given, so the
guarantee of Bell et al. 2020, whose graph is random, does not hold against the server.
"""

from __future__ import annotations

from simulations.evidence.attacks.measure import AttackOutcome, reconstruction, synthetic_update
from simulations.evidence.attacks.on_flower.round import (
    VICTIM,
    FlowerMember,
    Keys,
    pair_secret,
    read,
    rebuilt,
    strip,
    until_masked,
)

COHORT = tuple(range(1, 21))
COLLUDERS = (2, 3, 4, 5)
NEIGHBOURHOOD, THRESHOLD = 5, 3  # shares of each member: one it keeps, one for each neighbour


def cohort_of_one() -> AttackOutcome:
    """The victim alone, with a threshold of one."""
    victim = FlowerMember(VICTIM)
    keys = victim.setup(threshold=1, shares=1)
    victim.share({VICTIM: keys})
    masked = victim.mask([])
    seed = rebuilt(victim.unmask([VICTIM], []).seeds.values(), 1)
    clear = strip(masked, VICTIM, seed, {})
    how = "a cohort of one with a threshold of one was served"
    return reconstruction(synthetic_update(VICTIM), read(clear), how)


def chosen_neighbours() -> AttackOutcome:
    """The server gives the victim four colluders of twenty members as its neighbours."""
    members = {node: FlowerMember(node) for node in COHORT}
    around = {VICTIM, *COLLUDERS}
    rest = [node for node in COHORT if node not in around]

    def neighbourhood(node: int, keys: dict[int, Keys]) -> dict[int, Keys]:
        if node in around:
            return {peer: keys[peer] for peer in around}
        at = rest.index(node)
        ring = [rest[(at + step) % len(rest)] for step in range(-2, 3)]
        return {peer: keys[peer] for peer in ring}

    seen = until_masked(members, THRESHOLD, neighbourhood, NEIGHBOURHOOD)
    seed = rebuilt([members[node].held(VICTIM)[0] for node in COLLUDERS], THRESHOLD)
    victim_public = seen.keys[VICTIM][0]
    pairs = {n: pair_secret(members[n].private_key(), victim_public) for n in COLLUDERS}
    clear = strip(seen.masked[VICTIM], VICTIM, seed, pairs)
    how = f"{len(COLLUDERS)} colluders of {len(COHORT)} members were all its neighbours"
    return reconstruction(synthetic_update(VICTIM), read(clear), how)
