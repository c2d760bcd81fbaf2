"""How much of what answers a question memory finds, on LoCoMo, and how long a search takes.

Ours is the product's own index and search, over a database of its own for each conversation. The
peers rank the same items in the same database by FTS5's BM25 alone and by MiniLM's cosine alone.
Nothing is judged by a model: LoCoMo says which turns are a question's evidence.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import fmean
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from client.memory.embedding import SentenceEncoder
from client.memory.memory import Memory
from client.memory.search import Snapshot, snapshot, words_of
from client.vault.collection import Collection
from client.vault.database import prepare
from common.errors import InputError
from simulations.evidence.benchmarks import locomo
from simulations.evidence.benchmarks.locomo import Conversation, Question, session_of
from simulations.evidence.benchmarks.timing import Figures, Row

FOUND = 100  # items that each search returns
DEPTHS, SESSION_DEPTHS = (5, 10, 20), (5, 10)
NEVER_SAID = 5  # the category
OURS, BM25, MINILM = "ours", "bm25_alone", "minilm_alone"
Search = Callable[[str], list[int]]


@dataclass(slots=True)
class Tally:
    """What one way of searching found, a list entry for each question."""

    categories: list[int] = field(default_factory=list)
    figures: list[Figures] = field(default_factory=list)

    def add(self, question: Question, turns: list[str], took_s: float) -> None:
        """Enter the turns that were found, best first, and how long that took."""
        self.categories.append(question.category)
        self.figures.append(recalls(question.evidence, turns) | {"query_ms": took_s * 1000})

    def mean(self, categories: set[int]) -> Figures:
        """Means over the questions of these categories."""
        rows = zip(self.categories, self.figures, strict=True)
        chosen = [figures for category, figures in rows if category in categories]
        means = {key: fmean(one[key] for one in chosen) for key in chosen[0]}
        return {"questions_count": len(chosen)} | means


def rows(data: Path | None, quick: bool) -> Iterator[Row]:
    """All but category 5, each category, and category 5 apart.

    Raises:
        InputError: No file is named, or it is not LoCoMo's.
    """
    if data is None:
        raise InputError("This benchmark needs LoCoMo's file.", "Give --data FILE.")
    conversations = locomo.read(data)[: 1 if quick else None]
    tallies, items, indexing_s = measured(conversations)
    known = set(tallies[OURS].categories)
    said = known - {NEVER_SAID}
    cases = [("questions that can be answered", said)]
    cases += [(f"category {one}", {one}) for one in sorted(known)]
    for case, categories in cases:
        if categories:
            row = _row(case, data.name, {who: one.mean(categories) for who, one in tallies.items()})
            row.ours["indexing_ms_per_item"] = 1000 * indexing_s / items
            yield row


def _row(case: str, data: str, figures: dict[str, Figures]) -> Row:
    ours = figures.pop(OURS)
    ratios = {f"recall_at_10_vs_{who}": _ratio(ours, peer) for who, peer in figures.items()}
    return Row(case=case, data=data, ours=ours, peers=figures, limit={}, ratios=ratios)


def _ratio(ours: Figures, peer: Figures) -> float:
    key = "recall_at_10_share"
    return ours[key] / peer[key] if peer[key] else float("inf")


def recalls(evidence: frozenset[str], found: list[str]) -> Figures:
    """The share of the evidence among the first turns, and whether any of its sessions comes early.

    Sessions are ranked by the best of their turns.
    """
    sessions = list(dict.fromkeys(session_of(turn) for turn in found))
    wanted = {session_of(turn) for turn in evidence}
    shares = {
        f"recall_at_{k}_share": len(evidence & set(found[:k])) / len(evidence) for k in DEPTHS
    }
    early = {
        f"session_any_at_{k}_share": float(not wanted.isdisjoint(sessions[:k]))
        for k in SESSION_DEPTHS
    }
    return shares | early


class Told:
    """An embedder that was told the query's vector, so that it is made once for all ways.

    Args:
        encoder: What makes all other vectors.
    """

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder, self.name = encoder, encoder.name
        self.query, self.vectors = "", encoder.embed(["to load it"])

    def tell(self, query: str) -> float:
        """Make a query's vector; how long that took in seconds."""
        start = perf_counter()
        self.query, self.vectors = query, self._encoder.embed([query])
        return perf_counter() - start

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `client.memory.embedding.Embedder`."""
        return self.vectors if list(texts) == [self.query] else self._encoder.embed(texts)


def measured(conversations: list[Conversation]) -> tuple[dict[str, Tally], int, float]:
    """Each way's tally, how many items there were, and how long indexing them took in seconds."""
    tallies = {who: Tally() for who in (OURS, BM25, MINILM)}
    embedder = Told(SentenceEncoder())
    indexing_s, items = 0.0, 0
    for conversation in conversations:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "device.db"
            with closing(sqlite3.connect(file, isolation_level=None)) as db:
                prepare(db, str(file))
                turns = _filled(db, conversation)
                memory = Memory(db, embedder, partial(_same, conversation.end))
                start = perf_counter()
                memory.refresh()
                indexing_s += perf_counter() - start
                items += len(turns)
                ways = _ways(db, memory, embedder)
                for question in conversation.questions:
                    _ask(ways, embedder, question, turns, tallies)
    return tallies, items, indexing_s


def _same(moment: datetime) -> datetime:
    return moment


def _filled(db: sqlite3.Connection, conversation: Conversation) -> dict[int, str]:
    """Bring a conversation in as an import would; the turn of each record."""
    records = Collection(db)
    records.add(conversation.turns.values(), conversation.name)
    return dict(zip((item for item, _, _ in records.items()), conversation.turns, strict=True))


def _ways(db: sqlite3.Connection, memory: Memory, embedder: Told) -> dict[str, Search]:
    known = snapshot(memory.index, embedder.name)
    assert known is not None  # a conversation has turns
    return {
        OURS: lambda query: [hit.item.id for hit in memory.search(query, FOUND)],
        BM25: lambda query: _by_words(db, query),
        MINILM: lambda query: _by_meaning(known, embedder, query),
    }


def _ask(
    ways: dict[str, Search],
    embedder: Told,
    question: Question,
    turns: dict[int, str],
    tallies: dict[str, Tally],
) -> None:
    """One question, each way in turn, so that what else the machine does falls on all."""
    embedding_s = embedder.tell(question.text)
    for who, search in ways.items():
        start = perf_counter()
        found = search(question.text)
        took_s = perf_counter() - start + (0.0 if who == BM25 else embedding_s)
        tallies[who].add(question, [turns[item] for item in found], took_s)


def _by_words(db: sqlite3.Connection, query: str) -> list[int]:
    words = " OR ".join(f'"{word}"' for word in words_of(query))
    rows = db.execute(
        "SELECT rowid FROM memory_words WHERE memory_words MATCH ? ORDER BY rank, rowid LIMIT ?",
        (words, FOUND),
    )
    return [item for (item,) in rows]


def _by_meaning(known: Snapshot, embedder: Told, query: str) -> list[int]:
    (vector,) = embedder.embed([query])
    order = np.argsort(-(known.vectors @ vector), kind="stable")[:FOUND]
    return [int(known.turns.numbers[row]) for row in order]
