"""The graph: regular, undirected, connected, and as random as a shuffle."""

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ProtocolError
from common.secagg.graph import neighbours

sizes = st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=40, unique=True)


def reachable(graph: dict[int, tuple[int, ...]]) -> int:
    seen, todo = set(), [next(iter(graph))]
    while todo:
        member = todo.pop()
        if member not in seen:
            seen.add(member)
            todo += graph[member]
    return len(seen)


@given(sizes, st.data(), st.binary(min_size=32, max_size=32))
def test_regular_undirected_connected(members, data, seed) -> None:
    k = data.draw(st.integers(1, len(members) - 1))
    graph = neighbours(members, k, seed)
    degree = k - 1 if k % 2 and len(members) % 2 else k
    assert set(graph) == set(members)
    for member, around in graph.items():
        assert len(around) == len(set(around)) == degree
        assert list(around) == sorted(around)
        assert member not in around
        assert all(member in graph[other] for other in around)
    if degree >= 2:
        assert reachable(graph) == len(members)


@given(sizes, st.binary(min_size=32, max_size=32))
def test_complete_graph(members, seed) -> None:
    graph = neighbours(members, len(members) - 1, seed)
    assert all(set(graph[m]) == set(members) - {m} for m in members)


def test_order_of_members_does_not_matter() -> None:
    members = list(range(20))
    assert neighbours(members, 4, b"s") == neighbours(members[::-1], 4, b"s")


def test_every_pair_is_drawn_about_equally_often() -> None:
    draws, members, k = 2000, list(range(9)), 4
    counts: Counter[tuple[int, int]] = Counter()
    for draw in range(draws):
        seed = hashlib.sha256(str(draw).encode()).digest()
        graph = neighbours(members, k, seed)
        counts.update((a, b) for a in members for b in graph[a] if a < b)
    expected = draws * k / 8  # each pair is joined with probability k / (n - 1)
    spread = (draws * 0.5 * 0.5) ** 0.5
    assert len(counts) == 36
    assert all(abs(count - expected) < 5 * spread for count in counts.values())


@pytest.mark.parametrize(("members", "k"), [([1, 1, 2], 1), ([1, 2], 2), ([1, 2], -1), ([], 0)])
def test_impossible_graph_is_refused(members: list[int], k: int) -> None:
    with pytest.raises(ProtocolError):
        neighbours(members, k, b"seed")
