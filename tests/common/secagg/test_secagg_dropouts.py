"""Who drops out when: either the exact sum of the survivors, or nothing."""

import copy
import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pytest
from secagg_round import (
    FIVE,
    FIVE_MEMBERS,
    LEGS,
    aggregator,
    assert_no_member_exposed,
    collect,
    drive,
    due_from,
    participants,
    plain_sum,
    reload,
    step,
)

from common.errors import RoundAbandonedError
from common.secagg import Aggregator, Participant, RoundTerms, from_ring


@dataclass
class Node:
    """A round before leg `leg`, with those who are still there."""

    leg: int
    server: Aggregator
    people: dict[int, Participant]
    inbound: dict[int, bytes]
    survivors: set[int]


def subsets(members: list[int]) -> Iterator[set[int]]:
    for size in range(len(members) + 1):
        yield from map(set, combinations(members, size))


def explore(terms: RoundTerms, node: Node) -> Iterator[tuple[int, int]]:
    """Every choice of who drops from here on: (scenarios, of which summed).

    Members that stay are independent of who drops beside them in the same leg, so their answer
    is made once and every subset of the answers is delivered to a copy of the server.
    """
    after = {member: reload(who) for member, who in node.people.items()}
    answers = {m: step(terms, node.leg, after[m], m, node.inbound[m]) for m in after}
    for arrived in subsets(list(after)):
        server = copy.deepcopy(node.server)
        delivered = {member: answers[member] for member in arrived}
        try:
            if node.leg == LEGS - 1:
                total = from_ring(server.unmask(delivered), terms.bits)
            else:
                inbound = collect(server, node.leg, delivered)
        except RoundAbandonedError:
            assert len(arrived) < terms.least
            assert_no_member_exposed(terms, answers.values() if node.leg == LEGS - 1 else [])
            yield (LEGS - node.leg) ** len(arrived), 0
            continue
        assert len(arrived) >= terms.least  # t holders and oneself, where everybody holds for all
        if node.leg == LEGS - 1:
            assert np.array_equal(total, plain_sum(terms, node.survivors))
            assert_no_member_exposed(terms, answers.values())
            yield 1, 1
            continue
        assert set(inbound) == arrived
        survivors = arrived if node.leg == 2 else node.survivors
        people = {member: after[member] for member in arrived}
        yield from explore(terms, Node(node.leg + 1, server, people, inbound, survivors))


def explore_all(terms: RoundTerms, members: tuple[int, ...]) -> tuple[int, int]:
    people = participants(terms, members)
    root = Node(0, aggregator(terms), people, dict.fromkeys(members, b""), set())
    scenarios = list(explore(terms, root))
    return sum(count for count, _ in scenarios), sum(summed for _, summed in scenarios)


def test_every_dropout_of_five_members() -> None:
    scenarios, summed = explore_all(FIVE, FIVE_MEMBERS)
    assert scenarios == 6**5
    assert summed == 1 + 5 * 5  # t + 1 = 4 members must be there to the end


def test_every_dropout_of_six_members() -> None:
    terms = replace(
        FIVE, cohort=6, least=5, corrupt=2, levels=5000, neighbours=5, threshold=4, colluders=2
    )
    scenarios, summed = explore_all(terms, (*FIVE_MEMBERS, 12))
    assert scenarios == 6**6
    assert summed == 1 + 6 * 5


SEVEN = replace(FIVE, cohort=7, least=5, levels=4681, neighbours=6, threshold=4, colluders=1)
SEVEN_MEMBERS = (0, 1, 2, 30, 31, 32, 2**40)


def test_seven_members_with_up_to_three_dropouts() -> None:
    generator = random.Random(11)
    for _ in range(40):
        gone = generator.sample(SEVEN_MEMBERS, generator.randint(0, 3))
        drops = {member: generator.randrange(LEGS) for member in gone}
        outcome = drive(SEVEN, SEVEN_MEMBERS, drops)
        if len(gone) > 2:
            fewest = sorted(drops.values())[2]
            assert outcome.abandoned_in == fewest
            assert outcome.total is None
        else:
            assert outcome.total is not None
            assert outcome.survivors == {m for m in SEVEN_MEMBERS if drops.get(m, 9) > 2}
            assert np.array_equal(outcome.total, plain_sum(SEVEN, outcome.survivors))
        reveals = outcome.sent[4].values() if len(outcome.sent) > 4 else []
        assert_no_member_exposed(SEVEN, reveals)


def large(neighbours: int, threshold: int, bits: int) -> RoundTerms:
    colluders = 2 * threshold - neighbours - 1
    return replace(
        FIVE,
        cohort=64,
        least=-(-64 * threshold // neighbours),
        corrupt=colluders,
        bits=bits,
        levels=(2 ** (bits - 1) - 1) // 64,
        neighbours=neighbours,
        threshold=threshold,
        colluders=colluders,
        dimension=500,
    )


def expected_leg(
    terms: RoundTerms,
    members: Collection[int],
    holders: Mapping[int, Collection[int]],
    drops: Mapping[int, int],
) -> int | None:
    """The leg in which too few are left, counted from who chose whom."""
    present = [{m for m in members if drops.get(m, 9) > leg} for leg in range(LEGS)]
    for leg in range(LEGS):
        few = any(len(present[leg] & set(holders[m])) < terms.threshold for m in present[1])
        if (leg and few) or (leg < 4 and len(present[leg]) < terms.least):
            return leg
    return None


@pytest.mark.parametrize(
    ("neighbours", "threshold", "bits", "gone", "abandoned_in"),
    [
        (16, 9, 16, 4, None),
        (16, 9, 24, 10, None),
        (16, 11, 32, 20, 2),
        (63, 34, 16, 25, None),
        (63, 40, 24, 30, 3),
    ],
)
def test_64_members_with_random_dropouts(
    neighbours: int, threshold: int, bits: int, gone: int, abandoned_in: int | None
) -> None:
    terms, members = large(neighbours, threshold, bits), range(100, 164)
    generator = random.Random(f"{bits}/{neighbours}")
    drops = {m: generator.randrange(1, LEGS) for m in generator.sample(members, gone)}
    outcome = drive(terms, members, drops)
    assert (
        outcome.abandoned_in == abandoned_in == expected_leg(terms, members, outcome.holders, drops)
    )
    if outcome.abandoned_in is None:
        assert outcome.total is not None
        assert np.array_equal(outcome.total, plain_sum(terms, outcome.survivors))
        assert_no_member_exposed(terms, outcome.sent[4].values())


def test_one_starved_neighbourhood_abandons_a_large_round() -> None:
    terms, members = large(16, 11, 16), range(64)
    holders = drive(terms, members, {}).holders
    drops = dict.fromkeys(holders[0][:6], 2)
    outcome = drive(terms, members, drops)
    assert outcome.abandoned_in == 2
    assert len(outcome.sent) == 3  # nobody was asked to confirm, let alone to reveal


def test_all_members_send_equally_many_bytes_until_they_reveal() -> None:
    outcome = drive(large(16, 9, 24), range(64), {})
    for sent in outcome.sent[:4]:
        assert len({len(message) for message in sent.values()}) == 1
    for member, reveal in outcome.sent[4].items():
        assert len(reveal) == 34 + 8 + 4 + 75 * len(due_from(member, outcome.holders))


def test_a_small_roster_has_fewer_holders() -> None:
    terms = replace(FIVE, cohort=12, least=7, levels=2000, neighbours=7, threshold=5, colluders=1)
    for size, degree in ((7, 6), (8, 7), (11, 7)):
        outcome = drive(terms, range(size), {})
        assert {len(chosen) for chosen in outcome.holders.values()} == {degree}
        assert np.array_equal(outcome.total, plain_sum(terms, range(size)))
