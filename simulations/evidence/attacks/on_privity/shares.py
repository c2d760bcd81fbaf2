"""Against Privity: a member's seed and its private key, both from shares.

Members sign the lists of sharers and survivors, each answers one list, and none reveals before
enough others signed the same (Bonawitz et al. 2017, figure 4, the consistency check). No honest
holder gives both shares of a member, and 2t > k + c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from common.secagg import Floor, Participant, RoundTerms
from common.secagg.messages import decode_confirmation, encode_confirmations, encode_survivors
from simulations.evidence.attacks.measure import (
    AttackOutcome,
    RefusalsSeen,
    closest,
    reconstruction,
    synthetic_update,
)
from simulations.evidence.attacks.on_privity.attacker import Attacker
from simulations.evidence.attacks.on_privity.round import (
    COLLUDERS,
    DEVICE_FLOOR,
    MEMBERS,
    TERMS,
    VICTIM,
    PrivityRound,
)

OTHERS = tuple(m for m in MEMBERS if m != VICTIM)
HONEST = tuple(m for m in MEMBERS if m not in COLLUDERS)
FIRST_HALF = HONEST[: len(HONEST) // 2]

Lists = Mapping[int, tuple[int, ...]]  # by member, the survivors it is told
Signatures = dict[int, bytes]


def alive_and_dead(kind: type[Participant] = Participant) -> AttackOutcome:
    """Name the victim twice in one list; then ask for one of its shares, and then for the other."""
    refusals = RefusalsSeen()
    _named_twice(PrivityRound(kind=kind).until(3), refusals)
    run = PrivityRound(kind=kind).until(3)
    attacker = Attacker.of(run)
    for alive in (MEMBERS, OTHERS):
        _reveal(run, attacker, dict.fromkeys(set(HONEST) & set(alive), alive), refusals, _everyone)
    return reconstruction(synthetic_update(VICTIM), attacker.guess(VICTIM, OTHERS), str(refusals))


def two_lists(terms: RoundTerms = TERMS, floor: Floor = DEVICE_FLOOR) -> AttackOutcome:
    """Half of the members hear that the victim is alive, half that it is dead; colluders sign both.

    Each is then shown either the signatures over its own list, or all that there are.
    """
    refusals, guesses = RefusalsSeen(), []
    lists = {m: MEMBERS if m in FIRST_HALF else OTHERS for m in HONEST}
    for shown in (_own_side, _everyone):
        run = PrivityRound(terms, floor=floor).until(3)
        attacker = Attacker.of(run)
        _reveal(run, attacker, lists, refusals, shown)
        guesses.append(attacker.guess(VICTIM, OTHERS))
    return closest(synthetic_update(VICTIM), guesses, str(refusals))


def _named_twice(run: PrivityRound, refusals: RefusalsSeen) -> None:
    bound = Attacker.of(run).bound(VICTIM)
    once = encode_survivors(bound, MEMBERS)
    head, ids = once[: -8 * len(MEMBERS) - 4], once[-8 * len(MEMBERS) :]
    twice = head + (len(MEMBERS) + 1).to_bytes(4, "big") + ids[:8] + ids
    for who in run.people.values():
        refusals.ask(who.confirm, twice)


def _reveal(
    run: PrivityRound,
    attacker: Attacker,
    lists: Lists,
    refusals: RefusalsSeen,
    shown: Callable[[int, Lists, Signatures, Attacker], Signatures],
) -> None:
    """Have honest members confirm the list meant for each, then reveal to the attacker."""
    bound, signed = attacker.bound(VICTIM), {}
    for member, alive in lists.items():
        answer = refusals.ask(run.people[member].confirm, encode_survivors(bound, alive))
        if answer is not None:
            signed[member] = decode_confirmation(bound, member, answer)
    for member in signed:
        told = encode_confirmations(bound, shown(member, lists, signed, attacker))
        reveal = refusals.ask(run.people[member].reveal, told)
        if reveal is not None:
            attacker.hears(member, bound, reveal)


def _everyone(member: int, lists: Lists, signed: Signatures, attacker: Attacker) -> Signatures:
    return signed | attacker.signatures(lists[member])


def _own_side(member: int, lists: Lists, signed: Signatures, attacker: Attacker) -> Signatures:
    same = {m: signature for m, signature in signed.items() if lists[m] == lists[member]}
    return same | attacker.signatures(lists[member])
