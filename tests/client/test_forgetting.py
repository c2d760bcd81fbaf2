"""What is forgotten is in no page of the vault, decrypted, nor in its log, nor in an adapter."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from client.cli import main
from client.learning import forgetting
from client.learning.forgetting import Wanted, forget, found
from client.memory.index import Index
from client.vault.unlocking import Passphrase
from client.vault.vault import Vault
from common.records.records import Fact, Message, Record

WORDS = "correct horse battery"
PAGE, RESERVED, SALT, FRAME, LOG_HEADER = 4096, 80, 16, 24, 32


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    secret, folder = tmp_path / "secret", tmp_path / "home"
    secret.touch(0o600)
    secret.write_text(WORDS + "\n")
    monkeypatch.setenv("PRIVITY_PASSPHRASE_FILE", str(secret))
    monkeypatch.setenv("PRIVITY_HOME", str(folder))
    assert main(["init"]) == 0
    return folder


def opened(home: Path) -> Vault:
    return Vault.open(home, Passphrase(lambda _: WORDS), exclusive=True)


def plain(page: bytes, key: bytes, first: bool) -> bytes:
    """A page as SQLite sees it: AES-256-CBC, vector and code at the page's end (SQLCipher 4)."""
    start, end = SALT if first else 0, PAGE - RESERVED
    reader = Cipher(algorithms.AES(key), modes.CBC(page[end : end + 16])).decryptor()
    return reader.update(page[start:end]) + reader.finalize()


def pages(home: Path, key: bytes) -> bytes:
    """Every page of the database and of its log, decrypted, free ones as well."""
    whole = (home / "vault.db").read_bytes()
    found = [plain(whole[at : at + PAGE], key, at == 0) for at in range(0, len(whole), PAGE)]
    log = home / "vault.db-wal"
    logged = log.read_bytes() if log.exists() else b""
    for at in range(LOG_HEADER, len(logged), FRAME + PAGE):
        number = int.from_bytes(logged[at : at + 4], "big")
        found.append(plain(logged[at + FRAME : at + FRAME + PAGE], key, number == 1))
    return b"".join(found)


def records(count: int) -> list[Record]:
    chance = random.Random(1)
    names = [f"{chance.getrandbits(60):015x}" for _ in range(count)]
    return [Fact(text=f"{name} {'x' * chance.randrange(900)} {name[::-1]}") for name in names]


@pytest.mark.parametrize(
    "rounds", [20, pytest.param(250, marks=pytest.mark.long)], ids=["few", "many"]
)
def test_no_page_has_a_copy(home: Path, rounds: int) -> None:
    chance, there = random.Random(0), records(5 * rounds)
    with opened(home) as vault:
        vault.records.add(there[: 4 * rounds], "a file")
        key, gone, memory = vault._key, list[str](), Index(vault.database)
        list(memory.add_words())
        for turn in range(rounds):
            left = [(item, record) for item, record, _ in vault.records.items()]
            chosen = chance.sample(left, chance.randrange(1, 4))
            if turn % 5 == 1:
                list(memory.add_words())
            forget(vault, [item for item, _ in chosen])
            gone += [str(record.values["text"]) for _, record in chosen]
            if turn % 5 == 0:
                vault.records.add([there[4 * rounds + turn]], "another")
            if turn % max(1, rounds // 20) == 0 or turn == rounds - 1:
                everything = pages(home, key)
                for text in gone:
                    assert text[:15].encode() not in everything
                    assert text[-15:].encode() not in everything
        kept = [str(record.values["text"]) for record in vault.records.each()]
        assert all(text[:15].encode() in everything for text in kept[:-1])  # they can be seen


def test_without_it_a_copy_would_be_seen(home: Path) -> None:
    """The test above can fail: deleting without wiping leaves the log's older pages."""
    (record,) = records(1)
    with opened(home) as vault:
        vault.records.add([record], "a file")
        ((item, _, _),) = vault.records.items()
        vault.records.remove([item])
        assert str(record.values["text"])[:15].encode() in pages(home, vault._key)
        vault.wipe_free_space()
        assert str(record.values["text"])[:15].encode() not in pages(home, vault._key)


def said_to(name: str, text: str, day: int) -> Message:
    at = f"2026-01-{day:02d}T10:00:00+00:00"
    return Message(text=text, author="other", conversation=name, at=at)


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (Wanted(query="TEA"), ["b", "c"]),
        (Wanted(person="anna"), ["c"]),
        (Wanted(since="2026-01-02T00:00:00+00:00"), ["a tea"]),
        (Wanted(source="other file"), ["a tea", "b", "c"]),
        (Wanted(items=[2]), ["a tea", "c"]),
        (Wanted(everything=True), []),
        (Wanted(query="tea", person="Ben"), ["a tea", "b", "c"]),
    ],
)
def test_what_goes_is_all_that_was_said(home: Path, wanted: Wanted, left: list[str]) -> None:
    with opened(home) as vault:
        told = [said_to("Anna", "a tea", 1), said_to("Anna", "b", 2), said_to("Ben", "c", 3)]
        vault.records.add(told, "a file")
        forget(vault, [item for item, _, _ in found(vault, wanted)])
        assert [record.values["text"] for record in vault.records.each()] == left


def test_everything_that_was_made_of_records_goes_with_any_of_them(home: Path) -> None:
    with opened(home) as vault:
        vault.records.add(records(2), "a file")
        for prefix in forgetting.DERIVED:
            vault.store.put(f"{prefix}x", b"derived")
        vault.store.put("adapter/shared", b"others'")
        forget(vault, [1])
        assert [key for p in forgetting.DERIVED for key in vault.store.keys(p)] == []
        assert vault.store.get("adapter/shared") == b"others'"


def test_after_forgetting_the_adapter_is_one_that_never_saw_them(home: Path) -> None:
    from client.learning.personal import train
    from common.settings import Settings
    from simulations.devices import SeededRandomness

    def told(count: int, name: str) -> list[Record]:
        return [
            Message(text=f"{name} {n}", author=author, conversation=name,
                    at=f"2026-01-01T10:{n:02d}:0{second}+00:00")
            for n in range(count) for second, author in enumerate(("other", "me"))
        ]  # fmt: skip

    def fitted(vault: Vault) -> np.typing.NDArray[np.float32]:
        random_ = SeededRandomness(0, 0).stream("personal")
        settings = Settings.of(model="tiny", modules="q_proj,v_proj", layers=0, personal_rank=2)
        result = train(vault.records.all(), None, settings, key=bytes(32), random=random_)
        assert result.personal is not None
        return result.personal.vector

    with opened(home) as vault:
        vault.records.add(told(30, "tea"), "a file")
        never = fitted(vault)
        vault.records.add(told(10, "secret"), "another")
        assert not np.array_equal(fitted(vault), never)
        forget(vault, [item for item, _, _ in found(vault, Wanted(person="secret"))])
        assert np.array_equal(fitted(vault), never)


def test_a_person_sees_what_goes_and_is_asked(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(f'{{"kind": "fact", "text": "fact {n}"}}\n' for n in range(7)))
    assert main(["import", str(file)]) == 0
    capsys.readouterr()
    assert main(["forget"]) == 2 and "was not said" in capsys.readouterr().err
    assert main(["forget", "nothing like it"]) == 2 and "No record fits" in capsys.readouterr().err
    assert main(["forget", "--since", "soon"]) == 2 and "no date" in capsys.readouterr().err
    assert main(["forget", "fact"]) == 2
    captured = capsys.readouterr()
    assert "7 records: 7 fact." in captured.out and "and 2 more" in captured.out
    assert "Give --yes" in captured.err
    assert main(["forget", "fact 3", "--yes"]) == 0
    assert "1 records are gone" in capsys.readouterr().out
    with opened(home) as vault:
        assert len(vault.records.all()) == 6
        assert main(["forget", "--all", "--yes"]) == 2  # somebody has it open
    assert "in use" in capsys.readouterr().err
