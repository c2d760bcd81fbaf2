"""Against Flower: a member's seed and its private key, both from shares.

Whoever holds both removes every mask of that member. Bonawitz et al. 2017 (figure 4) have the
members agree on one list of survivors before anybody reveals; Flower leaves that round out.
"""

from __future__ import annotations

from simulations.evidence.attacks.measure import AttackOutcome, reconstruction, synthetic_update
from simulations.evidence.attacks.on_flower.round import (
    MEMBERS,
    THRESHOLD,
    VICTIM,
    Revealed,
    SeenByServer,
    everyone,
    pair_secret,
    read,
    rebuilt,
    strip,
    until_masked,
)

HALF = len(MEMBERS) // 2
OTHERS = tuple(node for node in MEMBERS if node != VICTIM)


def alive_and_dead() -> AttackOutcome:
    """Every member is sent one message that names the victim on both lists."""
    members = everyone()
    seen = until_masked(members)
    revealed = [member.unmask(MEMBERS, [VICTIM]) for member in members.values()]
    return _read_victim(seen, revealed, THRESHOLD, f"{len(revealed)} members gave both shares")


def two_lists() -> AttackOutcome:
    """One half hears that the victim is alive, the other that it is dead."""
    members = everyone()
    seen = until_masked(members, threshold=HALF)
    alive = [members[node].unmask(MEMBERS, []) for node in MEMBERS[:HALF]]
    dead = [members[node].unmask(OTHERS, [VICTIM]) for node in MEMBERS[HALF:]]
    how = f"{len(alive)} members gave one share, {len(dead)} the other, at threshold {HALF}"
    return _read_victim(seen, alive + dead, HALF, how)


def _read_victim(
    seen: SeenByServer, revealed: list[Revealed], threshold: int, how: str
) -> AttackOutcome:
    """Rebuild both secrets of the victim, remove its masks, and compare."""
    seed = rebuilt([r.seeds[VICTIM] for r in revealed if VICTIM in r.seeds], threshold)
    private = rebuilt([r.keys[VICTIM] for r in revealed if VICTIM in r.keys], threshold)
    pairs = {peer: pair_secret(private, seen.keys[peer][0]) for peer in OTHERS}
    clear = strip(seen.masked[VICTIM], VICTIM, seed, pairs)
    return reconstruction(synthetic_update(VICTIM), read(clear), how)
