"""Holders and threshold: exact tails, bounds that hold, and no holder more than needed."""

import math
from collections.abc import Iterable
from dataclasses import asdict, astuple, replace
from fractions import Fraction
from functools import lru_cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom
from secagg_round import FIVE

from common.errors import InputError
from common.secagg.parameters import (
    Graph,
    abort_chance,
    choose,
    honest_in_sum,
    privacy_failure,
)

CERTAIN = -math.inf
ROUNDING = 1e-6  # bits; the tables hold logarithms of up to 1e6 with 16 digits


def chance_of_more(others: int, marked: int, drawn: int, than: int) -> Fraction:
    """That more than `than` of the first `marked` are drawn, by counting every draw."""
    draws = [sum(one < marked for one in draw) for draw in combinations(range(others), drawn)]
    return Fraction(sum(hits > than for hits in draws), len(draws))


def log2(value: Fraction) -> float:
    return math.log2(value) if value else CERTAIN


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_chance_of_abort_is_the_union_bound_over_every_draw(n: int) -> None:
    for least in range(1, n + 1):
        for k in range(1, n):
            for t in range(1, k + 1):
                exact = min(n * chance_of_more(n - 1, n - least, k, k - t), Fraction(1))
                got = abort_chance(n, least, k, t)
                assert got == pytest.approx(log2(exact), abs=ROUNDING), (n, least, k, t)


@given(st.data())
def test_no_size_of_the_roster_is_worse_than_the_bound(data: st.DataObject) -> None:
    n = data.draw(st.integers(3, 11))
    g = data.draw(st.integers(0, n - 2))
    least = data.draw(st.integers((n + g) // 2 + 1, n))
    k = data.draw(st.integers(1, n - 1))
    t = data.draw(st.integers(k // 2 + 1, k))
    c = data.draw(st.integers(0, min(g, 2 * t - k - 1)))
    bound = privacy_failure(n, least, g, k, t, c)
    for m in range(least, n + 1):
        exact = chance_of_more(m - 1, g, min(k, m - 1), c)
        assert bound >= min(log2((m - g) * exact), 0.0) - ROUNDING


def test_a_member_surrounded_by_colluders_is_the_whole_bound_where_sums_cannot_be_split() -> None:
    all_five = Fraction(math.comb(16, 5), math.comb(94, 5))  # of 94 others, by one's 16 holders
    assert privacy_failure(100, 95, 5, 16, 11, 5) < -50
    assert privacy_failure(100, 95, 5, 16, 11, 4) == pytest.approx(log2(95 * all_five))


def bits(members: Iterable[int]) -> int:
    return sum(1 << member for member in members)


def subsets(members: Iterable[int]) -> list[tuple[int, ...]]:
    members = tuple(members)
    return [chosen for size in range(len(members) + 1) for chosen in combinations(members, size)]


@lru_cache
def lies(honest: int, silent: int) -> tuple[NDArray[np.uint16], ...]:
    """Everything a server could decide: signers in the sum, others in it, others who dropped.

    `silent` of the honest members do not sign. Members are bits: three arrays [ways].
    """
    rows = [
        (bits(inside), bits(quiet), bits(gone))
        for mute in combinations(range(honest), silent)
        for quiet in subsets(mute)
        for gone in subsets(set(mute) - set(quiet))
        for inside in subsets(set(range(honest)) - set(mute))
        if (quiet or inside) and len(inside) < honest - silent
    ]
    return tuple(np.array(rows, dtype=np.uint16).T)


def smallest_sum(graph: Graph, random: np.random.Generator) -> int:
    """Honest signers in the smallest sum that the server could learn of one drawn graph."""
    n, honest, t = graph.cohort, graph.cohort - graph.corrupt, graph.threshold
    inside, quiet, gone = lies(honest, n - graph.least)
    beyond = ~(inside | quiet | gone | np.uint16(bits(range(honest, n))))  # masks with them stay
    possible = np.ones(len(inside), dtype=bool)
    for member in range(honest):
        others = [other for other in range(n) if other != member]
        drawn = np.uint16(bits(random.choice(others, graph.neighbours, replace=False)))
        enough_left = np.bitwise_count(drawn & ~gone) >= t  # to rebuild its self mask
        masked_inside = np.bitwise_count(drawn & ~beyond) >= t  # on a list of sharers of its own
        me = np.uint16(1 << member)
        signed = enough_left & (((inside & me) == 0) | ((drawn & beyond) == 0))
        unsigned = ((quiet & me) == 0) | (enough_left & masked_inside)
        possible &= np.where(((quiet | gone) & me) == 0, signed, unsigned)
    sizes = np.bitwise_count(inside[possible])
    return int(sizes.min(initial=graph.least - graph.corrupt))


WEAK = [
    Graph(cohort=12, least=12, corrupt=1, neighbours=4, threshold=4, colluders=1),
    Graph(cohort=11, least=10, corrupt=1, neighbours=6, threshold=5, colluders=1),
    Graph(cohort=10, least=8, corrupt=2, neighbours=7, threshold=5, colluders=2),
]


@pytest.mark.parametrize("graph", WEAK)
def test_no_lie_learns_a_smaller_sum_more_often_than_the_bound_says(graph: Graph) -> None:
    random, draws = np.random.default_rng(1), 400
    sizes = [smallest_sum(graph, random) for _ in range(draws)]
    whole = graph.least - graph.corrupt
    assert min(sizes) < whole  # weak enough to be seen
    at_fault = sum(size < whole for size in sizes)
    bound = 2 ** privacy_failure(*astuple(graph))
    assert bound < 1
    assert binom.sf(at_fault - 1, draws, bound) > 1e-6
    for privacy_bits in (0, 1, 2, 4, 6):
        fewest = honest_in_sum(*astuple(graph)[:5], privacy_bits=privacy_bits)
        below = sum(size < fewest for size in sizes)
        assert binom.sf(below - 1, draws, 2 ** -(privacy_bits + 1)) > 1e-6


def test_a_member_can_be_alone_in_a_sum_only_as_often_as_the_bound_says() -> None:
    """Three of a member's seven holders collude, two drop, five masked, five rebuild: t is 5.

    Shown a list of sharers without the other two, it masks towards none who survives.
    """
    n, least, g, k, t = 30, 27, 3, 7, 5
    random, draws = np.random.default_rng(2), 500
    drawn = random.random((draws, n - g, n - 1)).argsort(axis=2)[:, :, :k]  # 0 to g - 1 collude
    exposed = int(((drawn < g).sum(axis=2) == 2 * t - k).any(axis=1).sum())
    assert honest_in_sum(n, least, g, k, t, privacy_bits=0) > 0
    for privacy_bits in (0, 1, 2, 3, 1_000):
        if honest_in_sum(n, least, g, k, t, privacy_bits=privacy_bits) > 0:
            assert binom.sf(exposed - 1, draws, 2.0 ** -(privacy_bits + 1)) > 1e-6


@pytest.mark.parametrize("n", [3, 4, 5, 8, 10])
@pytest.mark.parametrize("losses", [0.05, 0.25])
def test_in_a_small_cohort_everybody_holds_for_everybody(n: int, losses: float) -> None:
    graph = choose(n, corrupt=0.05, losses=losses)
    assert (graph.corrupt, graph.neighbours, graph.colluders) == (1, n - 1, 1)
    assert privacy_failure(*astuple(graph)) == CERTAIN
    assert abort_chance(n, graph.least, n - 1, graph.threshold) == CERTAIN
    assert honest_in_sum(*astuple(graph)[:5]) == graph.least - 1


def test_a_cohort_of_eight() -> None:
    assert choose(8, corrupt=0.05, losses=0.25) == Graph(8, 6, 1, 7, 5, 1)


TABLE = [
    (0.05, Graph(10, 10, 1, 9, 8, 1), 9),
    (0.05, Graph(100, 95, 5, 18, 13, 5), 86),
    (0.05, Graph(1_000, 950, 50, 62, 46, 29), 896),
    (0.05, Graph(10_000, 9_500, 500, 77, 57, 36), 8_969),
    (0.25, Graph(10, 8, 1, 9, 7, 1), 7),
    (0.25, Graph(100, 75, 5, 54, 30, 5), 68),
    (0.25, Graph(1_000, 750, 50, 246, 148, 49), 697),
    (0.25, Graph(10_000, 7_500, 500, 412, 252, 91), 6_981),
]


@pytest.mark.parametrize(("losses", "graph", "honest"), TABLE)
def test_the_table(losses: float, graph: Graph, honest: int) -> None:
    assert choose(graph.cohort, corrupt=0.05, losses=losses) == graph
    assert honest_in_sum(*astuple(graph)[:5]) == honest


@pytest.mark.parametrize("n", [20, 64, 100, 256, 1_000, 10_000])
@pytest.mark.parametrize("losses", [0.05, 0.25])
def test_both_promises_are_kept_and_no_holder_is_too_many(n: int, losses: float) -> None:
    graph = choose(n, corrupt=0.05, losses=losses)
    k = graph.neighbours
    assert privacy_failure(*astuple(graph)) <= -72
    assert abort_chance(n, graph.least, k, graph.threshold) <= -20
    assert honest_in_sum(*astuple(graph)[:5]) >= 0.95 * (graph.least - graph.corrupt)
    thresholds = range(1, min(k, graph.least))
    alive = [t for t in thresholds if abort_chance(n, graph.least, k - 1, t) <= -20]
    for t in alive[-20:]:  # smaller ones protect less
        c = min(graph.corrupt, 2 * t - k)
        assert privacy_failure(n, graph.least, graph.corrupt, k - 1, t, c) > -73


@given(st.integers(2, 80), st.floats(0, 0.5), st.floats(0, 0.6))
def test_what_is_chosen_makes_valid_terms(n: int, corrupt: float, losses: float) -> None:
    try:
        graph = choose(n, corrupt=corrupt, losses=losses)
    except InputError:
        assert n < 3 + max(1, corrupt * n + 1e-6)  # even all of them are too few
        return
    replace(FIVE, levels=1, **asdict(graph)).validate()
    assert graph.corrupt <= max(1, corrupt * n + 1e-6)
    assert graph.least >= n - losses * n - 1e-6
    assert privacy_failure(*astuple(graph)) <= -72
    assert abort_chance(n, graph.least, graph.neighbours, graph.threshold) <= -20


def test_nobody_corrupt_and_nobody_lost() -> None:
    assert choose(2, corrupt=0, losses=0) == Graph(2, 2, 0, 1, 1, 0)


def test_stricter_promises_take_more_holders() -> None:
    def holders(**promises: float) -> int:
        return choose(1_000, corrupt=0.05, losses=0.05, **promises).neighbours

    assert holders(privacy_bits=40) < holders(privacy_bits=60) < holders(privacy_bits=80)
    assert holders() < holders(failure_bits=40)


@pytest.mark.parametrize(
    ("n", "corrupt", "losses"),
    [(1, 0, 0), (2**18, 0, 0), (8, -0.1, 0), (8, 1.0, 0), (8, 0, 1.0), (8, math.nan, 0)],
)
def test_out_of_range(n: int, corrupt: float, losses: float) -> None:
    with pytest.raises(InputError, match="not"):
        choose(n, corrupt=corrupt, losses=losses)


@pytest.mark.parametrize(("n", "corrupt"), [(2, 0.05), (3, 0.7), (10, 0.9)])
def test_too_many_colluders_for_any_graph(n: int, corrupt: float) -> None:
    with pytest.raises(InputError, match="larger cohort"):
        choose(n, corrupt=corrupt, losses=0)


def test_nothing_is_promised_for_more_members_than_the_tables_hold() -> None:
    n = 2**32 - 1
    assert privacy_failure(n, n, 0, 100, 80, 0) == 0
    assert honest_in_sum(n, n, 0, 100, 80) == 0
    assert abort_chance(n, n, 100, 80) == 0


def test_a_threshold_of_half_the_holders_protects_nobody() -> None:
    assert privacy_failure(100, 95, 5, 16, 8, 5) == 0
    assert honest_in_sum(100, 95, 5, 16, 8) < 90
