"""The index in the vault: each record's words (FTS5) and its sentence vector.

An item is a record that has words, under the record's own number. Triggers
(client/vault/database.py) keep the word index as the items are, and a record that goes takes its
item, words and vector along, whoever removes it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from client.vault.database import transaction

if TYPE_CHECKING:
    from client.memory.embedding import Embedder, Vectors

KINDS = ("message", "fact", "rating", "answer")
WORDS_CHUNK, VECTORS_CHUNK = 2_000, 256  # items; so much work an interruption can lose
STORED = "<f2"  # vectors on disk: half precision, little endian
SECURE_DELETE_SINCE = (3, 42, 0)  # of SQLite; an older one is only met in simulations
_ITEMS = (
    "SELECT item.id, record.kind, record.content, record.source, record.at,"
    " item.pinned, item.off FROM memory_items AS item JOIN records AS record USING (id)"
)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is remembered, and where it came from.

    Attributes:
        id: The record's number.
        kind: The record's kind.
        text: What was said; not shown in the repr.
        author: Who said it; empty where it is no message.
        conversation: Where it was said; empty where it is no message.
        source: The file it came from, or the like.
        at: When, ISO 8601 in UTC, or None.
        pinned: Comes first whenever it fits.
        off: Kept, and never found.
    """

    id: int
    kind: str
    text: str = field(repr=False)
    author: str
    conversation: str = field(repr=False)
    source: str = field(repr=False)
    at: str | None
    pinned: bool
    off: bool


@dataclass(frozen=True, slots=True)
class Missing:
    """How much of the vault is not indexed yet: records without words, items without vector."""

    words: int
    vectors: int


class Index:
    """The index in an open database whose tables are up to date.

    Args:
        db: A connection without implicit transactions, to SQLite or SQLCipher.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        _delete_words_securely(db)
        for table in _TEMPORARY:
            db.execute(f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.{table}")

    def missing(self, model: str) -> Missing:
        """What `add_words` and `add_vectors` would do."""
        (words,) = self._db.execute(f"SELECT COUNT(*) {_UNINDEXED}", KINDS).fetchone()
        (items,) = self._db.execute("SELECT COUNT(*) FROM memory_items").fetchone()
        (vectors,) = self._db.execute(
            "SELECT COUNT(*) FROM memory_vectors WHERE model = ?", (model,)
        ).fetchone()
        return Missing(words, words + items - vectors)

    def add_words(self) -> Iterator[int]:
        """Index the words of new records, chunk by chunk; how many each time."""
        while done := self._add_chunk():
            yield done

    def _add_chunk(self) -> int:
        """Read and written in one transaction: what is forgotten meanwhile does not come back."""
        query = f"SELECT record.id, record.kind, record.content {_UNINDEXED}"
        with transaction(self._db):
            rows = self._db.execute(
                f"{query} ORDER BY record.id LIMIT {WORDS_CHUNK}", KINDS
            ).fetchall()
            for number, kind, content in rows:
                values = json.loads(content)
                self._db.execute(
                    "INSERT INTO memory_items (id, text, conversation) VALUES (?, ?, ?)",
                    (number, text_of(kind, values), values.get("conversation")),
                )
        return len(rows)

    def add_vectors(self, embedder: Embedder) -> Iterator[int]:
        """Give a vector to each item that has none of this model, chunk by chunk.

        An item that is forgotten while its vector is made gets none.
        """
        while rows := self._db.execute(
            "SELECT id, text FROM memory_items WHERE id NOT IN"
            " (SELECT item FROM memory_vectors WHERE model = ?) ORDER BY LENGTH(text) LIMIT ?",
            (embedder.name, VECTORS_CHUNK),
        ).fetchall():
            vectors = embedder.embed([text for _, text in rows])
            with transaction(self._db):
                for (number, text), vector in zip(rows, vectors, strict=True):
                    self._db.execute(
                        "INSERT OR REPLACE INTO memory_vectors (item, model, vector)"
                        " SELECT id, ?, ? FROM memory_items WHERE id = ? AND text = ?",
                        (embedder.name, vector.astype(STORED).tobytes(), number, text),
                    )
            yield len(rows)

    def rows(self, model: str) -> Iterator[tuple[int, str | None, str | None, int, int, int]]:
        """Number, conversation, time, characters, pinned and off of each item with a vector.

        Conversation by conversation, each in the order of time and of its import.
        """
        yield from self._db.execute(
            "SELECT item.id, item.conversation, record.at, LENGTH(item.text), item.pinned, item.off"
            " FROM memory_items AS item JOIN records AS record USING (id)"
            " JOIN memory_vectors AS vector ON vector.item = item.id WHERE vector.model = ?"
            " ORDER BY item.conversation, record.at, item.id",
            (model,),
        )

    def vectors(self, model: str) -> dict[int, Vectors]:
        """The vector of each item that has one of this model, [width]."""
        import numpy as np

        rows = self._db.execute("SELECT item, vector FROM memory_vectors WHERE model = ?", (model,))
        return {item: np.frombuffer(vector, STORED).astype(np.float32) for item, vector in rows}

    def terms(self, words: str) -> list[str]:
        """What the word index calls these words: without endings, capitals and accents."""
        self._db.execute("INSERT INTO temp.memory_query (text) VALUES (?)", (words,))
        found = self._db.execute("SELECT term FROM temp.memory_query_terms").fetchall()
        self._db.execute("DELETE FROM temp.memory_query")
        return [term for (term,) in found]

    def postings(self, term: str) -> dict[int, int]:
        """How often a term stands in each item that has it."""
        rows = self._db.execute(
            "SELECT doc, COUNT(*) FROM temp.memory_postings WHERE term = ? GROUP BY doc", (term,)
        )
        return dict(rows)

    def mark(self, number: int, mark: str, value: bool) -> bool:
        """Set `pinned` or `off`; whether there is such an item."""
        with transaction(self._db):
            changed = self._db.execute(
                f"UPDATE memory_items SET {_column(mark)} = ? WHERE id = ?",  # noqa: S608
                (int(value), number),
            )
        return changed.rowcount > 0

    def item(self, number: int) -> Item | None:
        """One item, or None."""
        row = self._db.execute(f"{_ITEMS} WHERE item.id = ?", (number,)).fetchone()
        return None if row is None else _item(row)

    def newest(self, limit: int, mark: str = "") -> list[Item]:
        """The newest items by time, those without time last; all, `pinned` or `off` ones."""
        where = f"WHERE item.{_column(mark)}" if mark else ""
        rows = self._db.execute(
            f"{_ITEMS} {where} ORDER BY record.at DESC, item.id DESC LIMIT ?", (limit,)
        )
        return [_item(row) for row in rows]

    def count(self) -> int:
        """How many items there are."""
        return int(self._db.execute("SELECT COUNT(*) FROM memory_items").fetchone()[0])


_TEMPORARY = (  # in memory, of this connection alone
    "memory_postings USING fts5vocab(main, memory_words, instance)",
    "memory_query USING fts5(text, tokenize='porter unicode61 remove_diacritics 2')",
    "memory_query_terms USING fts5vocab(temp, memory_query, row)",
)
_UNINDEXED = (
    "FROM records AS record LEFT JOIN memory_items AS item ON item.id = record.id"
    f" WHERE item.id IS NULL AND record.kind IN ({', '.join('?' * len(KINDS))})"
)


def text_of(kind: str, values: dict[str, Any]) -> str:
    """What of a record is remembered, as text."""
    if kind == "rating":
        parts = [f"{values['title']}: {values['value']:g}", values.get("text") or ""]
        parts += [str(tag) for tag in values.get("tags") or ()]
        return " · ".join(part for part in parts if part)
    if kind == "answer":
        return f"{values['question']}\n{values['answer']}"
    return str(values["text"])


def _item(row: tuple[Any, ...]) -> Item:
    number, kind, content, source, at, pinned, off = row
    values = json.loads(content)
    return Item(
        id=number,
        kind=kind,
        text=text_of(kind, values),
        author=values.get("author", ""),
        conversation=values.get("conversation", ""),
        source=source,
        at=at,
        pinned=bool(pinned),
        off=bool(off),
    )


def _column(mark: str) -> str:
    if mark not in ("pinned", "off"):
        raise ValueError(f"{mark!r} is no mark")
    return mark


def _delete_words_securely(db: sqlite3.Connection) -> None:
    """FTS5 else only notes that a word is gone, and drops it when it merges its segments."""
    (version,) = db.execute("SELECT sqlite_version()").fetchone()
    if tuple(int(part) for part in version.split(".")) < SECURE_DELETE_SINCE:
        return
    known = db.execute("SELECT v FROM memory_words_config WHERE k = 'secure-delete'").fetchone()
    if known is None or not known[0]:
        with transaction(db):
            db.execute("INSERT INTO memory_words (memory_words, rank) VALUES ('secure-delete', 1)")
