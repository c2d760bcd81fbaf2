"""The graph: everybody's own choice of holders is uniform, and masks cancel along every choice."""

import random
from collections import Counter
from dataclasses import replace
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from secagg_round import FIVE, drive, plain_sum

from common.errors import ProtocolError
from common.secagg.graph import choose_holders, choosers

sizes = st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=40, unique=True)


@given(sizes, st.data(), st.randoms(use_true_random=False))
def test_distinct_others_in_order(members, data, source) -> None:
    member, k = data.draw(st.sampled_from(members)), data.draw(st.integers(0, len(members) - 1))
    chosen = choose_holders(member, members, k, source.randbytes)
    assert len(set(chosen)) == len(chosen) == k
    assert set(chosen) <= set(members) - {member}
    assert list(chosen) == sorted(chosen)


@given(sizes, st.randoms(use_true_random=False))
def test_everybody_holds_where_k_says_so(members, source) -> None:
    chosen = choose_holders(members[0], members, len(members) - 1, source.randbytes)
    assert set(chosen) == set(members[1:])


@pytest.mark.parametrize("member", [10, 13, 16])
def test_every_set_of_holders_is_drawn_equally_often(member: int) -> None:
    """Chi-square over all sets of 3 of 6; a sound draw fails with probability 1e-6."""
    draws, members, k = 4000, range(10, 17), 3
    source = random.Random(member)
    counts = Counter(choose_holders(member, members, k, source.randbytes) for _ in range(draws))
    expected = draws / comb(6, k)
    sets = combinations(sorted(set(members) - {member}), k)
    statistic = sum((counts[chosen] - expected) ** 2 / expected for chosen in sets)
    assert statistic < chi2.isf(1e-6, comb(6, k) - 1)


def test_every_peer_of_a_large_cohort_is_drawn_equally_often() -> None:
    """Counts of one draw add up to k, which takes one degree of freedom from the chi-square."""
    draws, size, k = 3000, 101, 16
    source, peers = random.Random(1), size - 1
    counts: Counter[int] = Counter()
    for _ in range(draws):
        counts.update(choose_holders(50, range(size), k, source.randbytes))
    share = k / peers
    spread = draws * share * (1 - share) * peers / (peers - 1)
    statistic = sum((counts[m] - draws * share) ** 2 for m in range(size) if m != 50) / spread
    assert chi2.ppf(1e-6, peers - 1) < statistic < chi2.isf(1e-6, peers - 1)


def test_words_that_would_bias_the_draw_are_drawn_again() -> None:
    words = [2**64 - 1, 1]  # 2^64 = 1 mod 3, so the last word of all has no place among thirds
    drawn = choose_holders(0, range(4), 1, lambda count: words.pop(0).to_bytes(count, "big"))
    assert drawn == (2,)
    assert words == []


@pytest.mark.parametrize(
    ("member", "members", "k"),
    [(1, [1, 1, 2], 1), (3, [1, 2], 1), (1, [1, 2], 2), (1, [1, 2], -1), (1, [], 0)],
)
def test_impossible_choice_is_refused(member: int, members: list[int], k: int) -> None:
    with pytest.raises(ProtocolError):
        choose_holders(member, members, k, random.Random(0).randbytes)


def test_choosers_are_the_other_direction() -> None:
    assert choosers({1: (2, 3), 2: (3,), 4: ()}) == {1: set(), 2: {1}, 3: {1, 2}, 4: set()}


SPARSE = replace(FIVE, cohort=12, least=8, levels=2700, neighbours=5, threshold=4, colluders=1)


def one_sided(holders) -> tuple[int, int]:
    """A member and a holder it chose that did not choose it."""
    return next((i, j) for i in holders for j in holders[i] if i not in holders[j])


@pytest.mark.parametrize("leaves", ["nobody", "chooser", "chosen"])
@pytest.mark.parametrize("leg", [2, 3, 4])
def test_masks_of_one_sided_choices_cancel(leaves: str, leg: int) -> None:
    members = range(12)
    i, j = one_sided(drive(SPARSE, members, {}).holders)
    drops = {"nobody": {}, "chooser": {i: leg}, "chosen": {j: leg}}[leaves]
    outcome = drive(SPARSE, members, drops)
    assert outcome.total is not None
    assert outcome.survivors == set(members) - (set(drops) if leg == 2 else set())
    assert np.array_equal(outcome.total, plain_sum(SPARSE, outcome.survivors))
