"""Memory finds what was said, by words, meaning and time, and keeps nothing of what is forgotten.

Meaning is a fake here wherever the model is not the point: each text's vector is that of its topic.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlcipher3 import dbapi2
from test_forgetting import pages as decrypted

from client.cli import main
from client.learning.forgetting import forget
from client.memory import index as index_module
from client.memory import memory as memory_module
from client.memory.context import BESIDE, EARLIER, LATER, bm25, turns
from client.memory.embedding import SentenceEncoder
from client.memory.memory import Memory
from client.memory.times import named_span
from client.vault import unlocking
from client.vault.collection import Collection
from client.vault.database import MIGRATIONS, prepare
from client.vault.unlocking import Cost, Passphrase
from client.vault.vault import Vault
from common.errors import InputError
from common.records.records import Answer, Fact, Measurement, Message, Rating, Record

Vectors = NDArray[np.float32]
WORDS = "correct horse battery"
NOW = datetime(2023, 8, 16, 12, tzinfo=UTC)  # a Wednesday
TOPICS = ("swim", "lake", "dog", "peanut", "train")


class Topics:
    """One direction for each topic, and one for all that has none."""

    def __init__(self, name: str = "topics") -> None:
        self.name, self.texts = name, list[str]()

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.texts += texts
        rows = [[float(one in text.casefold()) for one in TOPICS] for text in texts]
        found = np.array([[*row, float(not any(row))] for row in rows], np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "plain.db", isolation_level=None)) as found:
        prepare(found, "plain.db")
        yield found


def filled(db: sqlite3.Connection, *records: Record) -> Memory:
    Collection(db).add(records, "a file")
    memory = Memory(db, Topics(), lambda: NOW)
    memory.refresh()
    return memory


def said(*texts: str, conversation: str = "Anna", at: str = "") -> list[Record]:
    return [
        Message(text=one, author="me", conversation=conversation, at=at or None) for one in texts
    ]


def found(memory: Memory, query: str, limit: int = 10) -> list[int]:
    return [hit.item.id for hit in memory.search(query, limit)]


def test_words_are_found_whatever_their_endings_and_the_best_comes_first(
    db: sqlite3.Connection,
) -> None:
    memory = filled(db, *said("We ate bread.", "My bicycles were stolen!", "It rained."))
    hits = memory.search("stolen bicycle")
    assert hits[0].item.text == "My bicycles were stolen!"
    assert hits == sorted(hits, key=lambda hit: -hit.score)


def test_meaning_finds_what_no_word_does(db: sqlite3.Connection) -> None:
    filled(db, Fact(text="Peanuts make her ill."), Fact(text="He paints trains."))

    class Ill(Topics):
        def embed(self, texts: Sequence[str]) -> Vectors:
            return super().embed([one.replace("allergy", "peanut") for one in texts])

    assert found(Memory(db, Ill()), "allergy") == [1]
    assert found(Memory(db, Topics()), "allergy") == []


def test_an_answer_is_found_by_the_words_of_the_question_before_it(db: sqlite3.Connection) -> None:
    others = said(*(f"Something else number {n}." for n in range(30)), conversation="Ben")
    memory = filled(db, *others, *said("Where is the key of the shed?", "Under the third stone."))
    assert found(memory, "key of the shed")[:2] == [31, 32]


def test_no_word_counts_beyond_its_conversation(db: sqlite3.Connection) -> None:
    memory = filled(
        db, *said("The shed's key?", conversation="Anna"), *said("A train.", conversation="Ben")
    )
    assert found(memory, "a dog in the shed") == [1]


def test_turns_are_in_the_order_of_time_not_of_import(db: sqlite3.Connection) -> None:
    late = said("Under the stone.", at="2023-05-01T10:01:00+00:00")
    early = said("Where is the shed's key?", at="2023-05-01T10:00:00+00:00")
    between = said(*(f"Filler {n}." for n in range(9)), conversation="Ben")
    assert found(filled(db, *late, *between, *early), "a dog in the shed") == [11, 1]


def test_bm25_in_context_against_a_slow_computation() -> None:
    chance = random.Random(5)
    talks = [chance.choice(["a", "b", None]) for _ in range(40)]
    talks.sort(key=str)
    lengths = [chance.randrange(5, 90) for _ in talks]
    postings = [
        {n: chance.randrange(1, 4) for n in chance.sample(range(40), count)} for count in (3, 9, 30)
    ]

    def weight(from_row: int, to_row: int) -> float:
        if from_row == to_row:
            return 1.0
        apart = abs(from_row - to_row)
        if talks[from_row] is None or talks[from_row] != talks[to_row] or apart > 6:
            return 0.0
        return BESIDE * (EARLIER if from_row < to_row else LATER) ** apart

    def around(values: Callable[[int], float], row: int) -> float:
        return sum(weight(other, row) * values(other) for other in range(40))

    long = [around(lambda n: lengths[n], row) for row in range(40)]
    expected = np.zeros(40)
    for posting in postings:
        rarity = max(np.log((40 - len(posting) + 0.5) / (len(posting) + 0.5)), 1e-6)
        for row in range(40):
            often = around(lambda n, posting=posting: posting.get(n, 0), row)  # type: ignore[misc]
            mean = sum(long) / 40
            expected[row] += rarity * often * 2.2 / (often + 1.2 * (0.6 + 0.4 * long[row] / mean))
    scores, _ = bm25(turns(list(range(40)), talks, lengths), postings)
    np.testing.assert_allclose(scores, expected, rtol=1e-9)


def test_nothing_is_found_where_nothing_fits(db: sqlite3.Connection) -> None:
    memory = filled(db, *said("We swam in the lake."), Fact(text="The dog is called Rex."))
    assert memory.search("What is the peanut of the train?") == []
    assert Memory(db, Topics("another")).search("lake") == []  # nothing has its vectors


def test_pinned_items_come_first_when_they_fit_and_never_else(db: sqlite3.Connection) -> None:
    texts = ("The dog barks at the dog of the dog.", "A train.", "Once there was a dog, we heard.")
    memory = filled(db, *(Fact(text=one) for one in texts))
    assert found(memory, "dog") == [1, 3]
    memory.pin(3)
    memory.pin(2)
    assert found(memory, "dog") == [3, 1]
    memory.pin(3, value=False)
    assert found(memory, "dog") == [1, 3]


def test_what_is_off_is_kept_and_not_found(db: sqlite3.Connection) -> None:
    memory = filled(db, Fact(text="The dog barks."), Fact(text="Our dog sleeps."))
    memory.off(1)
    memory.pin(1)
    assert found(memory, "dog") == [2]
    assert [item.id for item in memory.list(10, "off")] == [1]
    assert memory.show(1).text == "The dog barks."
    memory.off(1, value=False)
    assert found(memory, "dog") == [1, 2]


def test_a_named_time_moves_what_was_said_then_to_the_front(db: sqlite3.Connection) -> None:
    days = ("2022-05-10", "2023-01-03", "2023-05-12", "2023-08-15")
    records = [
        Message(text="We went by train.", author="me", conversation=day, at=f"{day}T09:00:00+00:00")
        for day in days
    ]
    memory = filled(db, *records)
    for question, first in (
        ("Where did we go by train in May 2022?", 1), ("Which train last May?", 3),
        ("The train in 2022?", 1), ("A train on January 3rd?", 2), ("train yesterday", 4),
    ):  # fmt: skip
        assert found(memory, question)[0] == first, question
        assert len(found(memory, question)) == 4


@pytest.mark.parametrize(
    ("question", "first", "last"),
    [
        ("yesterday", "2023-08-15", "2023-08-16"),
        ("What did I eat today?", "2023-08-16", "2023-08-17"),
        ("two weeks ago", "2023-07-30", "2023-08-06"),
        ("last week", "2023-08-07", "2023-08-14"),
        ("last Monday", "2023-08-14", "2023-08-15"),
        ("last Wednesday", "2023-08-09", "2023-08-10"),
        ("last month", "2023-07-01", "2023-08-01"),
        ("last year", "2022-01-01", "2023-01-01"),
        ("last May", "2023-05-01", "2023-06-01"),
        ("last August", "2022-08-01", "2022-09-01"),
        ("in December", "2022-12-01", "2023-01-01"),
        ("last winter", "2022-12-01", "2023-03-01"),
        ("in May 2021", "2021-05-01", "2021-06-01"),
        ("on 7 May, 2021", "2021-05-07", "2021-05-08"),
        ("on May 7th", "2023-05-07", "2023-05-08"),
        ("2021-05-07", "2021-05-07", "2021-05-08"),
        ("in 2021-12", "2021-12-01", "2022-01-01"),
        ("in 2021", "2021-01-01", "2022-01-01"),
        ("on 31 June 2021", "2021-06-01", "2021-07-01"),  # there is no such day
    ],
)
def test_times_are_understood(question: str, first: str, last: str) -> None:
    span = named_span(question, NOW)
    assert span is not None
    assert [one.date().isoformat() for one in span] == [first, last]


@pytest.mark.parametrize(
    "question",
    ["What may I eat?", "Who marched?", "room 2300", "August is her name", ""],
)
def test_what_is_no_time_is_left_alone(question: str) -> None:
    assert named_span(question, NOW) is None


def test_only_what_is_new_is_indexed(db: sqlite3.Connection) -> None:
    topics = Topics()
    memory = Memory(db, topics)
    Collection(db).add([Fact(text="The dog."), Measurement(name="kg", value=7, unit="kg")], "one")
    assert memory.stale() == 2
    memory.refresh()
    Collection(db).add([Fact(text="The lake.")], "two")
    memory.refresh()
    assert topics.texts == ["The dog.", "The lake."]
    assert memory.stale() == 0


def test_an_interrupted_refresh_goes_on(
    db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "WORDS_CHUNK", 3)
    monkeypatch.setattr(index_module, "VECTORS_CHUNK", 2)
    Collection(db).add([Fact(text=f"Fact {n:02}.") for n in range(9)], "one")
    topics = Topics()
    steps = iter([3, 3, 3, 2, KeyboardInterrupt()])

    def step(done: int) -> None:
        expected = next(steps)
        if isinstance(expected, BaseException):
            raise expected
        assert done == expected

    with pytest.raises(KeyboardInterrupt):
        Memory(db, topics).refresh(step)
    memory = Memory(db, topics)
    assert memory.stale() == 5
    memory.refresh()
    assert sorted(topics.texts) == [f"Fact {n:02}." for n in range(9)]


def test_what_is_forgotten_while_its_vector_is_made_does_not_come_back(
    db: sqlite3.Connection,
) -> None:
    class Slow(Topics):
        def embed(self, texts: Sequence[str]) -> Vectors:
            Collection(db).remove([1])
            return super().embed(texts)

    Collection(db).add([Fact(text="The dog."), Fact(text="The lake.")], "one")
    memory = Memory(db, Slow())
    memory.refresh()
    assert db.execute("SELECT item FROM memory_vectors").fetchall() == [(2,)]
    assert found(memory, "dog") == []


def test_vectors_of_another_model_are_made_again(db: sqlite3.Connection) -> None:
    memory = filled(db, Fact(text="The dog barks."))
    assert memory.stale() == 0
    other = Memory(db, Topics("another"))
    assert other.stale() == 1
    other.refresh()
    assert found(other, "dog") == [1]


def test_what_of_each_kind_is_remembered(db: sqlite3.Connection) -> None:
    memory = filled(
        db,
        Rating(item="1", title="Lake House", value=4.5, text="slow", tags=["love"]),
        Answer(question="Where is the dog?", answer="Outside."),
        Measurement(name="weight", value=70, unit="kg"),
    )
    assert [item.text for item in memory.list(10)] == [
        "Where is the dog?\nOutside.", "Lake House: 4.5 · slow · love"
    ]  # fmt: skip


def test_signs_of_query_languages_are_only_signs(db: sqlite3.Connection) -> None:
    memory = filled(db, Fact(text='The dog\'s name is "Rex".'))
    for query in ('"dog" AND (', "dog*", "text:dog", "dog' OR 1=1 --", "NEAR(dog, rex)", "dog\0"):
        assert found(memory, query) == [1], query
    assert memory.search("🙂 ---") == []
    for refused in ("", "  "):
        with pytest.raises(InputError):
            memory.search(refused)


def test_a_removed_record_leaves_words_vectors_and_items(db: sqlite3.Connection) -> None:
    memory = filled(db, Fact(text="The dog barks."), Fact(text="A lake."))
    Collection(db).remove([1])
    assert found(Memory(db, Topics()), "dog") == []
    assert memory.index.postings("dog") == {}
    for table in ("memory_items", "memory_vectors"):
        assert db.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (1,)
    db.execute("INSERT INTO memory_words (memory_words, rank) VALUES ('integrity-check', 1)")


def test_no_page_keeps_a_copy_of_what_is_forgotten(tmp_path: Path) -> None:
    """In a plain file of the vault's own engine, its log included: words, their ends, vectors."""
    file, chance = tmp_path / "plain.db", random.Random(3)
    texts = [" ".join(f"{chance.getrandbits(64):016x}" for _ in range(12)) for _ in range(600)]
    with closing(dbapi2.connect(str(file), isolation_level=None)) as db:
        db.execute("PRAGMA secure_delete = ON")  # as `client.vault.sqlcipher.connect` does
        db.execute("PRAGMA journal_mode = WAL")
        prepare(db, "plain.db")
        records = Collection(db)
        records.add(said(*texts), "one")
        memory = Memory(db, Random())
        memory.refresh()
        gone = chance.sample(range(1, 601), 200)
        vectors = [
            db.execute("SELECT vector FROM memory_vectors WHERE item = ?", (n,)).fetchone()[0]
            for n in gone
        ]
        everything = pages(file)
        assert all(vector in everything for vector in vectors)
        words = [word for n in gone for word in texts[n - 1].split()]
        assert sum(word[-9:].encode() in everything for word in words) > 0.9 * len(words)
        for at in range(0, 200, 20):
            records.remove(gone[at : at + 20])
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        everything = pages(file)
        assert not [word for word in words if word[-9:].encode() in everything]
        assert not [word for word in words if word[:9].encode() in everything]
        assert not [vector for vector in vectors if vector in everything]
        left = next(n for n in range(1, 601) if n not in gone)
        assert texts[left - 1].encode() in everything
        assert found(Memory(db, Random()), texts[left - 1].split()[0])[0] == left


class Random:
    """Vectors of noise, the same for the same text."""

    name = "random"

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = [np.random.default_rng(list(one.encode())).normal(size=32) for one in texts]
        return np.array([row / np.linalg.norm(row) for row in rows], np.float32)


def pages(file: Path) -> bytes:
    log = file.with_name(f"{file.name}-wal")
    return file.read_bytes() + (log.read_bytes() if log.exists() else b"")


def test_a_vault_made_before_memory_gets_its_tables(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db", isolation_level=None)) as db:
        before = next(n for n, one in enumerate(MIGRATIONS) if "memory_items" in one)
        for script in MIGRATIONS[:before]:
            db.executescript(script)
        db.execute(f"PRAGMA user_version={before}")
        Collection(db).add([Fact(text="The dog barks.")], "a file")
        prepare(db, "old.db")
        memory = Memory(db, Topics())
        memory.refresh()
        assert found(memory, "dog") == [1]


def test_sentence_vectors_ignore_what_stands_beside_them_in_a_batch() -> None:
    encoder = SentenceEncoder("tiny-bert")
    texts = ["a dog", "a much longer sentence about a lake and a train " * 20, "x", ""]
    together = encoder.embed(texts)
    alone = np.concatenate([encoder.embed([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert encoder.embed([]).shape[0] == 0


def test_a_sentence_vector_is_the_mean_of_the_last_hidden_states() -> None:
    import torch

    from common.models import load_base, load_tokenizer

    model: Any = load_base("tiny-bert")
    ids = load_tokenizer("tiny-bert")("a dog at the lake", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        mean = model(input_ids=ids)[0][0].mean(0).numpy()
    (vector,) = SentenceEncoder("tiny-bert").embed(["a dog at the lake"])
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(unlocking, "DEFAULT_COST", Cost(1, 8, 1))
    monkeypatch.setattr(memory_module, "SentenceEncoder", Topics)
    secret, records = tmp_path / "secret", tmp_path / "records.jsonl"
    secret.touch(0o600)
    secret.write_text(WORDS + "\n")
    lines = [
        {"kind": "message", "text": "Where do you swim?", "author": "other", "conversation": "A"},
        {"kind": "message", "text": "In the lake.", "author": "me", "conversation": "A"},
        {"kind": "fact", "text": "The dog is called Rex.", "at": "2023-01-02T03:04:05+00:00"},
    ]
    records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setenv("PRIVITY_PASSPHRASE_FILE", str(secret))
    monkeypatch.setenv("PRIVITY_HOME", str(tmp_path / "home"))
    assert main(["init"]) == 0
    assert main(["import", str(records)]) == 0
    return tmp_path / "home"


def out(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["memory", *arguments]) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def test_the_command_line_finds_marks_and_shows(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hits = json.loads(out(capsys, "search", "Where is the lake?", "--json"))
    assert [set(hit) for hit in hits] == [{"id", "text", "source", "at", "score"}] * len(hits)
    assert (hits[0]["id"], hits[0]["text"], hits[0]["source"]) == (
        2,
        "In the lake.",
        "records.jsonl",
    )
    assert "Rex" in out(capsys, "search", "dog", "--home", str(home))
    assert json.loads(out(capsys, "search", "peanuts", "--json")) == []
    assert out(capsys, "search", "peanuts") == "Nothing that is remembered fits.\n"
    out(capsys, "off", "3")
    assert json.loads(out(capsys, "search", "dog", "--json")) == []
    assert "(off)" in out(capsys, "list", "--off")
    out(capsys, "on", "3")
    out(capsys, "pin", "3")
    assert "(pinned)" in out(capsys, "list")
    shown = out(capsys, "show", "3")
    assert "The dog is called Rex." in shown
    assert "2023-01-02T03:04:05+00:00" in shown
    assert "records.jsonl" in shown


@pytest.mark.parametrize(
    "wrong",
    [("show", "9"), ("pin", "9"), ("off", "0"), ("search", " "), ("search", "a", "--limit", "0"),
     ("list", "--limit", "-1")],
)  # fmt: skip
def test_what_cannot_be_done_is_one_sentence(
    home: Path, capsys: pytest.CaptureFixture[str], wrong: tuple[str, ...]
) -> None:
    assert out(capsys, *wrong, code=2).count("\n") == 1


def test_a_forgotten_item_leaves_nothing_in_the_vaults_decrypted_pages(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "quetzalcoatl"
    with Vault.open(home, Passphrase(lambda _: WORDS), exclusive=True) as vault:
        vault.records.add([Fact(text=f"A train to {secret}.")], "another")
        memory = Memory(vault.database, Random())
        memory.refresh()
        key = vault._key
        (vector,) = vault.database.execute(
            "SELECT vector FROM memory_vectors WHERE item = 4"
        ).fetchone()
        assert secret.encode() in (before := decrypted(home, key))
        assert vector in before
        forget(vault, [4])
        everything = decrypted(home, key)
        assert secret[:7].encode() not in everything
        assert vector not in everything
        assert memory.index.count() == 3
        vault.check()
    assert "records are gone" in out(capsys, "forget", "3", "--yes")
    assert json.loads(out(capsys, "search", "dog", "--json")) == []
