"""Against Privity: who is in the round.

A device has a floor of its own under cohort, threshold and modulus, and counts the members in
every list it is sent. It chooses the holders of its shares itself, once the roster is fixed, so a
server can neither pick them nor try rosters until they suit it (Bell et al. 2020, section 4).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from io import BytesIO
from math import comb, sqrt

import numpy as np

from common.secagg import Floor, RoundTerms, levels_for
from common.secagg.graph import choose_holders
from common.secagg.messages import (
    Inbox,
    decode_inbox,
    decode_roster,
    decode_shares,
    encode_inbox,
    encode_roster,
    encode_survivors,
)
from common.secagg.parameters import choose
from simulations.evidence.attacks.measure import (
    AttackOutcome,
    RefusalsSeen,
    reconstruction,
    synthetic_update,
)
from simulations.evidence.attacks.on_privity.attacker import Attacker
from simulations.evidence.attacks.on_privity.round import (
    BINDING,
    BITS,
    DEVICE_FLOOR,
    MASK,
    TERMS,
    VICTIM,
    PrivityRound,
)

ALONE = {"least": 1, "corrupt": 0, "neighbours": 0, "threshold": 0, "colluders": 0}
TWO = {"least": 2, "corrupt": 0, "neighbours": 1, "threshold": 1, "colluders": 0}
BELOW_FLOOR: tuple[dict[str, int], ...] = (
    {"cohort": 1} | ALONE,
    {"cohort": 2} | TWO,
    {"threshold": 1},
    {"threshold": 4},
    {"least": 2},
    {"corrupt": 0, "colluders": 0, "least": 5},
    {"bits": 8},
)
COHORT = tuple(range(1, 21))
AROUND = (2, 3, 4, 5)  # colluders; in Flower they are all the neighbours the victim is given
ROSTERS, WORD_BYTES = 20_000, 8
DEVIATIONS = 5  # a Poisson count goes so far beyond its mean of 5 with probability below 1e-4


def small_cohorts(floor: Floor = DEVICE_FLOOR) -> AttackOutcome:
    """Terms below the floor, then lists of a good round with members left out."""
    refusals = RefusalsSeen()
    for changes in BELOW_FLOOR:
        refusals.ask(_round_of, changes, floor)
    _cut_lists(refusals)
    pair = refusals.ask(_round_of, BELOW_FLOOR[1], floor)
    if pair is None:
        return AttackOutcome(False, f"{refusals}; no vector was sent", {"vectors_sent": 0})
    guess = Attacker.of(pair.until(3), (2,)).guess(VICTIM, (2,))
    return reconstruction(synthetic_update(VICTIM), guess, str(refusals))


def chosen_neighbours() -> AttackOutcome:
    """Four colluders of twenty try to be all holders of the victim, over many rosters."""
    graph = choose(len(COHORT), corrupt=len(AROUND) / len(COHORT), losses=0.1)
    terms = replace(TERMS, levels=levels_for(len(COHORT), BITS), **asdict(graph))
    run = PrivityRound(terms, COHORT).until(3)
    guess = Attacker.of(run, AROUND).guess(VICTIM, _partners(run))
    surrounded, expected = _surrounded(), ROSTERS / comb(len(COHORT) - 1, len(AROUND))
    how = (
        f"with {len(AROUND)} holders, {surrounded} of {ROSTERS} rosters gave only colluders "
        f"(chance: {expected:.1f}); with the {graph.neighbours} computed for 20 members, none can"
    )
    found = reconstruction(synthetic_update(VICTIM), guess, how)
    lucky = surrounded > expected + DEVIATIONS * sqrt(expected)
    measured = found.measured | {"surrounded": surrounded, "surrounded_by_chance": expected}
    return AttackOutcome(found.succeeded or lucky, found.text, measured)


def _partners(run: PrivityRound) -> set[int]:
    """The members that share a mask with the victim: its holders, and those whose holder it is."""
    digest = run.terms.digest()
    chose = {m: decode_shares(digest, m, data).sealed for m, data in run.sent[1].items()}
    return {*chose[VICTIM], *(m for m, holders in chose.items() if VICTIM in holders)}


def _round_of(changes: dict[str, int], floor: Floor) -> PrivityRound:
    terms: RoundTerms = replace(TERMS, **changes)  # type: ignore[arg-type]
    return PrivityRound(terms, range(1, terms.cohort + 1), floor=floor)


def _cut_lists(refusals: RefusalsSeen) -> None:
    """Roster, sharers and survivors of a good round, one member short of what the terms ask."""
    run = PrivityRound().until(4)
    few = range(1, TERMS.least)
    digest = TERMS.digest()
    adverts = decode_roster(digest, run.messages(1)[VICTIM])
    roster = encode_roster(digest, {m: adverts[m] for m in few})
    refusals.ask(run.victim_before(1).share, roster)
    sealed = decode_inbox(digest, run.messages(MASK)[VICTIM]).sealed
    inbox = encode_inbox(digest, Inbox(tuple(few), {m: sealed[m] for m in few if m != VICTIM}))
    refusals.ask(run.victim_before(MASK).mask, inbox, run.vector(VICTIM), BINDING)
    survivors = encode_survivors(Attacker.of(run).bound(VICTIM), few)
    refusals.ask(run.victim_before(3).confirm, survivors)


def _surrounded() -> int:
    """In how many rosters all holders of a member collude if the server chooses all ids."""
    draws = np.random.default_rng(0)
    rosters = draws.random((ROSTERS, 2 * len(COHORT))).argsort(axis=1)[:, : len(COHORT)].tolist()
    chance = BytesIO(draws.bytes(2 * WORD_BYTES * len(AROUND) * ROSTERS)).read
    return sum(
        set(choose_holders(roster[0], roster, len(AROUND), chance))
        == {*roster[1 : 1 + len(AROUND)]}
        for roster in rosters
    )
