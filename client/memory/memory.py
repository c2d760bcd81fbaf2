"""Memory as the rest of the client uses it: brought up to date, searched, listed and marked."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from client.memory.embedding import Embedder, SentenceEncoder
from client.memory.index import Index, Item
from client.memory.search import Snapshot, search, snapshot
from common.errors import InputError

LIMIT = 10


@dataclass(frozen=True, slots=True)
class Hit:
    """An item that was found, and how well it fits; scores compare within one search only."""

    item: Item
    score: float


class Memory:
    """The memory in an open database.

    Args:
        db: A connection without implicit transactions, such as a vault's `database`.
        embedder: What makes vectors; MiniLM unless it is said otherwise.
        clock: The present moment.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        embedder: Embedder | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.index = Index(db)
        self._embedder, self._clock = embedder or SentenceEncoder(), clock
        self._snapshot: Snapshot | None = None

    def stale(self) -> int:
        """How many steps `refresh` would take."""
        missing = self.index.missing(self._embedder.name)
        return missing.words + missing.vectors

    def refresh(self, step: Callable[[int], None] = lambda _: None) -> None:
        """Index what has come since the last time; interrupted, it goes on there the next time.

        Args:
            step: Told how many steps were just done.
        """
        for done in self.index.add_words():
            step(done)
        for done in self.index.add_vectors(self._embedder):
            step(done)
        self._snapshot = None

    def search(self, query: str, limit: int = LIMIT) -> list[Hit]:
        """What fits, best first; nothing where nothing does. It finds what `refresh` indexed.

        Raises:
            InputError: The query has no words, or the limit is no positive number.
        """
        if not query.strip():
            raise InputError("There is nothing to search for.", "Give some words.")
        _require_positive(limit)
        if self._snapshot is None:
            self._snapshot = snapshot(self.index, self._embedder.name)
        if self._snapshot is None:
            return []
        (vector,) = self._embedder.embed([query])
        found = search(self.index, self._snapshot, query, vector, limit, self._clock())
        items = ((self.index.item(one.id), one.score) for one in found)
        return [Hit(item, score) for item, score in items if item is not None]

    def list(self, limit: int, mark: str = "") -> list[Item]:
        """The newest items: all, or those that are `pinned` or `off`.

        Raises:
            InputError: The limit is no positive number.
        """
        _require_positive(limit)
        return self.index.newest(limit, mark)

    def show(self, number: int) -> Item:
        """One item.

        Raises:
            InputError: There is none of this number.
        """
        if item := self.index.item(number):
            return item
        raise _none(number)

    def pin(self, number: int, value: bool = True) -> None:
        """Let an item come first whenever it fits, or no longer.

        Raises:
            InputError: There is none of this number.
        """
        self._mark(number, "pinned", value)

    def off(self, number: int, value: bool = True) -> None:
        """Keep an item and find it no more, or find it again.

        Raises:
            InputError: There is none of this number.
        """
        self._mark(number, "off", value)

    def _mark(self, number: int, mark: str, value: bool) -> None:
        if not self.index.mark(number, mark, value):
            raise _none(number)
        self._snapshot = None


def _require_positive(limit: int) -> None:
    if limit < 1:
        raise InputError(f"{limit} is no number of results.", "Give at least 1.")


def _none(number: int) -> InputError:
    return InputError(f"Memory has no item {number}.", "`privity-client memory list` shows them.")
