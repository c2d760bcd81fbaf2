"""Tables of what was found of each kind: precision, recall, F1 and support, with their means.

Counts are added first and divided last, over people too. Means as scikit-learn's
`classification_report` has them: micro of the summed counts, macro over kinds, weighted by support.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# table → kind → how many were found and right, found, and there
Counts = dict[str, dict[str, list[int]]]


@dataclass(frozen=True, slots=True)
class KindRow:
    """One line of a table; shares are between 0 and 1, and 0 where nothing was found or there."""

    kind: str
    precision: float
    recall: float
    f1: float
    support: int


def added(counts: Iterable[Counts]) -> Counts:
    """All of them together."""
    total: Counts = {}
    for one in counts:
        for table, kinds in one.items():
            mine = total.setdefault(table, {})
            for kind, numbers in kinds.items():
                before = mine.get(kind, [0, 0, 0])
                mine[kind] = [a + b for a, b in zip(before, numbers, strict=True)]
    return total


def rows(kinds: Mapping[str, list[int]]) -> list[KindRow]:
    """A line a kind that was found or is there, then the means `micro`, `macro`, `weighted`."""
    seen = {kind: numbers for kind, numbers in kinds.items() if any(numbers)}
    each = [_row(kind, *numbers) for kind, numbers in seen.items()]
    return [*each, *_means(each, list(seen.values()))]


def micro_f1(kinds: Mapping[str, list[int]]) -> float:
    """F1 of the summed counts."""
    return _row("", *_summed(kinds.values())).f1


def macro_f1(kinds: Mapping[str, list[int]]) -> float:
    """Mean F1 of the kinds that were found or are there; 0 where there is none."""
    found = [_row(kind, *numbers).f1 for kind, numbers in kinds.items() if any(numbers)]
    return sum(found) / len(found) if found else 0.0


def _row(kind: str, right: int, found: int, there: int) -> KindRow:
    precision, recall = _share(right, found), _share(right, there)
    return KindRow(kind, precision, recall, _share(2 * right, found + there), there)


def _means(each: list[KindRow], counts: list[list[int]]) -> list[KindRow]:
    if not each:
        return []
    support = sum(row.support for row in each)

    def mean(name: str, weights: list[int]) -> float:
        weighted = sum(w * float(getattr(r, name)) for w, r in zip(weights, each, strict=True))
        return weighted / sum(weights) if sum(weights) else 0.0

    def line(kind: str, weights: list[int]) -> KindRow:
        precision, recall, f1 = (mean(name, weights) for name in ("precision", "recall", "f1"))
        return KindRow(kind, precision, recall, f1, support)

    micro = _row("micro", *_summed(counts))
    return [micro, line("macro", [1] * len(each)), line("weighted", [r.support for r in each])]


def _summed(counts: Iterable[list[int]]) -> tuple[int, int, int]:
    right = found = there = 0
    for one in counts:
        right, found, there = right + one[0], found + one[1], there + one[2]
    return right, found, there


def _share(part: int, of: int) -> float:
    return part / of if of else 0.0
