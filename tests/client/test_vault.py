"""The vault: what opens it, what survives, and that nothing personal is outside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from client.vault import unlocking
from client.vault.database import MIGRATIONS
from client.vault.ledger import Charge, Spent
from client.vault.store import Store, Upload
from client.vault.unlocking import Cost, Keyring, Passphrase
from client.vault.vault import Vault
from common.errors import InputError, PrivityError, ProtocolError
from common.privacy.accountant import Release, epsilon
from common.records.records import Record, record_of

CHEAP = Cost(1, 8, 1)
SECRET = "the rosebush behind the chapel"
RECORD = record_of("fact", {"text": SECRET})
RELEASE, COUNT = Release(1.5, 0.5, 3), Release(7.5, 1.0, 1)
OLD = Release(0.75, 0.5, 3)  # of a version in which one example more could change two


def words(text: str = "correct horse battery") -> Passphrase:
    return Passphrase(lambda _: text, CHEAP)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    with Vault.create(folder, words()) as vault:
        vault.records.add([RECORD], "notes.jsonl")
        vault.store.put("adapter/personal", SECRET.encode())
        vault.store.ledger.charge(charge(1))
    return folder


def charge(number: int) -> Charge:
    spent = Spent(1.25, 1e-5), Spent(2.5, 1e-6)
    return Charge("run", number, 0, RELEASE, 0.25, "aa", *spent, count=COUNT)


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the lock, whose content is a process id."""
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.name != "vault.lock"}


def test_it_remembers(home: Path) -> None:
    with Vault.open(home, words()) as vault:
        assert vault.records.all() == [RECORD]
        assert vault.store.get("adapter/personal") == SECRET.encode()
        assert vault.store.ledger.trainings() == [RELEASE]
        assert [entry.spent for entry in vault.store.ledger.entries()] == [
            Spent(1.25, 1e-5),
            Spent(2.5, 1e-6),
        ]
        assert vault.kept == "passphrase"
        vault.check()


def test_the_ledger_guarantees_the_same_as_on_plain_sqlite(home: Path) -> None:
    with Vault.open(home, words()) as vault:
        with pytest.raises(ProtocolError, match="charged already"):
            vault.store.ledger.charge(charge(1))
        db = vault.store._db
        for statement in (
            "DELETE FROM releases",
            "UPDATE releases SET rho = 0",
            "INSERT OR REPLACE INTO releases (run, round, attempt, guarantee, noise_multiplier,"
            " sample_rate, steps, data, version, at)"
            " VALUES ('run', 1, 0, 'record', 9, 1, 0, '', '', 0)",
        ):
            with pytest.raises(db.IntegrityError, match="append-only"):
                db.execute(statement)
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert db.execute("PRAGMA recursive_triggers").fetchone() == (1,)


def test_closing_the_lent_store_leaves_the_vault_open(home: Path) -> None:
    with Vault.open(home, words()) as vault:
        vault.store.close()
        vault.store.put("key", b"still")


@pytest.mark.parametrize("open_too", [False, True])
def test_nothing_personal_is_readable_in_any_file(home: Path, open_too: bool) -> None:
    vault = Vault.open(home, words())
    vault.records.add(
        [record_of("fact", {"text": f"{SECRET} {i}"}) for i in range(500)], "diary.txt"
    )
    vault.store.put("adapter/shared", SECRET.encode() * 10_000)
    vault.store.journal(Upload("secret-run", 1, 0, "update", 42))
    if not open_too:
        vault.close()
    found = contents(home)
    assert ("vault.db-wal" in found) is open_too
    assert not open_too or len(found["vault.db-wal"]) > 100_000
    for name, content in found.items():
        for personal in (
            SECRET,
            "rosebush",
            "diary.txt",
            "secret-run",
            "SQLite format",
            "releases",
        ):
            assert personal.encode() not in content, name
            assert personal.encode("utf-16-le") not in content, name
    assert found["vault.json"]
    vault.close()


def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        (tmp_path / "home").mkdir(mode=0o777)
        with Vault.create(tmp_path / "home", words()) as vault:
            vault.store.put("key", b"value")
            modes = {f.name: f.stat().st_mode & 0o777 for f in (tmp_path / "home").iterdir()}
    finally:
        os.umask(before)
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert {"vault.db", "vault.db-wal", "vault.db-shm", "vault.json", "vault.lock"} == set(modes)
    assert set(modes.values()) == {0o600}


def test_a_wrong_passphrase_is_told_and_touches_nothing(home: Path) -> None:
    before = contents(home)
    with pytest.raises(InputError, match="Wrong passphrase"):
        Vault.open(home, words("incorrect horse battery"))
    with pytest.raises(InputError, match="kept by 'passphrase'"):
        Vault.open(home, Keyring(Ring()))
    assert contents(home) == before


def test_a_key_of_another_vault_is_told(home: Path, tmp_path: Path) -> None:
    """The header of one vault beside the database of another."""
    Vault.create(tmp_path / "other", words()).close()
    (home / "vault.json").write_bytes((tmp_path / "other/vault.json").read_bytes())
    before = contents(home)
    with pytest.raises(InputError, match="damaged"):
        Vault.open(home, words())
    assert contents(home) == before


def test_a_short_passphrase_makes_no_vault(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 8"):
        Vault.create(tmp_path / "home", words("short"))
    with pytest.raises(InputError, match="no vault"):
        Vault.open(tmp_path / "home", words())
    Vault.create(tmp_path / "home", words()).close()


def test_a_vault_is_not_made_over_another(home: Path) -> None:
    before = contents(home)
    with pytest.raises(InputError, match=r"a vault in .* already"):
        Vault.create(home, words())
    (home / "vault.json").rename(home / "away")
    for act in (Vault.create, Vault.open):
        with pytest.raises(InputError, match=r"vault\.json is missing"):
            act(home, words())
    (home / "away").rename(home / "vault.json")
    (home / "vault.db").rename(home / "away")
    for act in (Vault.create, Vault.open):
        with pytest.raises(InputError, match=r"already|missing"):
            act(home, words())
    (home / "away").rename(home / "vault.db")
    assert contents(home) == before


@pytest.mark.parametrize("step", ["_make_database", "_write_header", "Path.rename"])
def test_an_interrupted_creation_leaves_no_vault_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"client.vault.vault.{step}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Vault.create(tmp_path, words())
    with pytest.raises(InputError, match="no vault"):
        Vault.open(tmp_path, words())
    Vault.create(tmp_path, words("another passphrase")).close()
    Vault.open(tmp_path, words("another passphrase")).close()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["vault.db", "vault.json", "vault.lock"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-5],
        lambda _: "[]",
        lambda text: text.replace('"wrapped": "', '"wrapped": "AA'),
        lambda text: text.replace('"salt": "', '"salt": "AAAA'),
        lambda text: text.replace('"salt"', '"sale"'),
        lambda text: text.replace('"passes": 1', '"passes": 99999999'),
        lambda text: text.replace('"memory_kib": 8', '"memory_kib": "8"'),
        lambda text: text.replace('"lanes"', '"lines"'),
        lambda text: text.replace('"version"', '"more": 1, "version"'),
    ],
)
def test_a_damaged_header_is_told(home: Path, change: Any) -> None:
    file = home / "vault.json"
    assert change(file.read_text()) != file.read_text()
    file.write_text(change(file.read_text()))
    with pytest.raises(InputError, match="damaged"):
        Vault.open(home, words())


def test_parameters_in_the_header_are_bound_to_the_key(home: Path) -> None:
    file = home / "vault.json"
    file.write_text(file.read_text().replace('"vault": "', '"vault": "0'))
    with pytest.raises(InputError, match="Wrong passphrase"):
        Vault.open(home, words())


def test_a_newer_vault_is_refused(home: Path) -> None:
    file = home / "vault.json"
    file.write_text(file.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(InputError, match="version 2"):
        Vault.open(home, words())
    file.write_text(file.read_text().replace('"version": 2', '"version": 1'))
    with Vault.open(home, words()) as vault:
        vault.store._db.execute("PRAGMA user_version=99")
    with pytest.raises(PrivityError, match="99"):
        Vault.open(home, words())


@pytest.mark.parametrize("place", [0, 20, 100, 4095])
def test_a_damaged_first_page_is_told(home: Path, place: int) -> None:
    flip(home / "vault.db", place)
    with pytest.raises(InputError, match=r"vault\.db is damaged"):
        Vault.open(home, words())


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def test_damage_in_any_page_is_told_when_it_is_read(home: Path) -> None:
    with Vault.open(home, words()) as vault:
        vault.records.add(
            [record_of("fact", {"text": f"{SECRET} {i}"}) for i in range(999)], "diary"
        )
    whole = (home / "vault.db").read_bytes()
    for page in range(1, len(whole) // 4096):
        flip(home / "vault.db", 4096 * page + 50)
        with pytest.raises(InputError, match=r"vault\.db is damaged") as told:
            read_all(home)
        assert "rosebush" not in str(told.value)
        (home / "vault.db").write_bytes(whole)
    assert len(read_all(home)) == 1000


def read_all(home: Path) -> list[Record]:
    with Vault.open(home, words()) as vault:
        vault.check()
        return vault.records.all()


@pytest.mark.parametrize("size", [0, 5, 4096, 4096 * 3])
def test_a_truncated_database_is_told_and_begins_no_new_ledger(home: Path, size: int) -> None:
    os.truncate(home / "vault.db", size)
    with pytest.raises(InputError, match=r"vault\.db is damaged"):
        read_all(home)
    assert (home / "vault.db").stat().st_size == size


@pytest.mark.parametrize("within_import", [False, True])
def test_a_full_disk_is_told_and_leaves_the_vault_as_it_was(
    home: Path, within_import: bool
) -> None:
    with Vault.open(home, words()) as vault:
        vault.store._db.execute("PRAGMA max_page_count = 12")
        with pytest.raises(InputError, match=r"full.*Make room"):
            if within_import:
                many = (record_of("fact", {"text": f"{i}" * 999}) for i in range(999))
                vault.records.add(many, "diary")
            else:
                vault.store.put("key", bytes(10**6))
        vault.store.put("key", b"small")  # the connection is still good
    assert read_all(home) == [RECORD]


FULL = """
import resource, sys
from pathlib import Path
from client.vault.unlocking import Passphrase
from client.vault.vault import Vault
from common.errors import InputError
with Vault.open(Path(sys.argv[1]), Passphrase(lambda _: "correct horse battery")) as vault:
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    try:
        for number in range(100):
            vault.store.put(f"blob/{number}", bytes(30_000))
    except InputError as error:
        sys.exit(f"told: {error}")
"""


def test_a_file_that_may_not_grow_is_told_and_what_was_written_stays(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(home)], capture_output=True, text=True, check=False
    )
    assert done.stderr.startswith("told: ")
    assert "Make room" in done.stderr
    with Vault.open(home, words()) as vault:
        vault.check()
        kept = vault.store.keys("blob/")
        assert 1 <= len(kept) < 100
        assert all(vault.store.get(key) == bytes(30_000) for key in kept)
        assert vault.store.ledger.trainings() == [RELEASE]


KILLED = """
import sys
from pathlib import Path
from client.vault.ledger import Charge
from client.vault.unlocking import Passphrase
from client.vault.vault import Vault
from common.privacy.accountant import Release, epsilon
vault = Vault.open(Path(sys.argv[1]), Passphrase(lambda _: "correct horse battery"), exclusive=True)
for number in range(2, 10**6):
    vault.store.ledger.charge(Charge("run", number, 0, Release(1.5, 0.5, 3), 0.25, "aa"))
    print(number, flush=True)
    vault.store.put("blob", bytes(200_000))
"""


@pytest.mark.parametrize("writes", [1, 7, 30])
def test_kill_9_during_writes_loses_nothing_that_was_confirmed(home: Path, writes: int) -> None:
    command = [sys.executable, "-c", KILLED, str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            confirmed = int(line)
            if confirmed > writes:
                process.send_signal(signal.SIGKILL)
                break
        confirmed = max([confirmed, *map(int, process.stdout.read().split())])
    assert process.returncode == -signal.SIGKILL
    with Vault.open(home, words(), exclusive=True) as vault:  # its lock went with it
        vault.check()
        charged = len(vault.store.ledger.trainings())
        assert confirmed <= charged <= confirmed + 1
        assert len(vault.store.ledger.user_rhos()) == charged
        assert vault.store.get("blob") in (None, bytes(200_000))
        assert vault.records.all() == [RECORD]


def test_one_owner_at_a_time(home: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        with pytest.raises(InputError, match=f"in use by process {process.pid}"):
            Vault.open(home, words(), exclusive=True)
        with Vault.open(home, words()) as vault:  # looking is allowed, and adding
            assert vault.store.ledger.releases()
            vault.store.put("key", b"value")
        process.kill()
    Vault.open(home, words(), exclusive=True).close()
    Vault.open(home, words(), exclusive=True).close()


def test_a_folder_that_cannot_be_used_is_told(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "vault.lock").unlink()
    (home / "vault.lock").mkdir()
    with pytest.raises(InputError, match=r"vault\.lock cannot be used"):
        Vault.open(home, words(), exclusive=True)

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("client.vault.vault._make_database", full)
    with pytest.raises(InputError, match="No space left"):
        Vault.create(tmp_path / "new", words())
    monkeypatch.undo()
    Vault.create(tmp_path / "new", words()).close()  # its lock was given back


def test_a_new_passphrase_opens_it_and_the_old_one_does_not(home: Path) -> None:
    database = (home / "vault.db").read_bytes()
    with Vault.open(home, words()) as vault:
        vault.rekey(words("staple in the haystack"))
        vault.store.put("key", b"after")
    with pytest.raises(InputError, match="Wrong passphrase"):
        Vault.open(home, words())
    with Vault.open(home, words("staple in the haystack")) as vault:
        assert vault.records.all() == [RECORD]
        assert vault.store.get("key") == b"after"
    assert (home / "vault.db").read_bytes() != database


def test_a_refused_new_passphrase_changes_nothing(home: Path) -> None:
    before = contents(home)
    with Vault.open(home, words()) as vault, pytest.raises(InputError, match="at least 8"):
        vault.rekey(words("short"))
    assert contents(home) == before


class Ring:
    """A keyring in memory; `priority` as the encrypting backends of real ones."""

    priority: float = 5

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    def set_password(self, service: str, user: str, password: str) -> None:
        self.kept[service, user] = password

    def get_password(self, service: str, user: str) -> str | None:
        return self.kept.get((service, user))

    def delete_password(self, service: str, user: str) -> None:
        del self.kept[service, user]


def test_the_key_in_the_keyring(tmp_path: Path) -> None:
    ring = Ring()
    with Vault.create(tmp_path, Keyring(ring)) as vault:
        vault.records.add([RECORD], "notes")
    ((place, key),) = ring.kept.items()
    assert place[0] == "privity"
    for content in contents(tmp_path).values():
        assert key.encode() not in content
    with Vault.open(tmp_path, Keyring(ring)) as vault:
        assert vault.kept == "keyring"
        assert vault.records.all() == [RECORD]
    with pytest.raises(InputError, match="holds no key"):
        Vault.open(tmp_path, Keyring(Ring()))
    for other in ("A" * 43 + "=", "AAAA", "?"):
        ring.kept[place] = other
        with pytest.raises(InputError, match="not this vault's"):
            Vault.open(tmp_path, Keyring(ring))


def test_from_the_keyring_to_a_passphrase_and_back(tmp_path: Path) -> None:
    ring = Ring()
    Vault.create(tmp_path, Keyring(ring)).close()
    with Vault.open(tmp_path, Keyring(ring)) as vault:
        vault.rekey(words(), Keyring(ring))
        assert not ring.kept
        vault.rekey(Keyring(ring), words())
    Vault.open(tmp_path, Keyring(ring)).close()
    assert len(ring.kept) == 1


class PlaintextRing(Ring):
    """Real plaintext backends say so by a low priority, or by their name."""


class WeakRing(Ring):
    priority = 0.5


class UselessRing(Ring):
    @property
    def priority(self) -> float:  # type: ignore[override]
        raise RuntimeError("no display")


def test_keyrings_that_do_not_encrypt_are_refused(tmp_path: Path) -> None:
    from keyring.backends import fail, null

    for ring in (PlaintextRing(), WeakRing(), UselessRing(), fail.Keyring(), null.Keyring()):
        with pytest.raises(InputError, match=r"no OS keyring that encrypts.*--passphrase"):
            Vault.create(tmp_path, Keyring(ring))
    assert not (tmp_path / "vault.json").exists()


def test_a_keyring_that_refuses_is_told(tmp_path: Path) -> None:
    from keyring.errors import KeyringLocked

    class Locked(Ring):
        def set_password(self, *_: str) -> None:
            raise KeyringLocked("what it says is its own affair")

    with pytest.raises(InputError, match=r"refused \(KeyringLocked\)"):
        Vault.create(tmp_path, Keyring(Locked()))


def test_the_default_cost_is_the_rfcs() -> None:
    cost = unlocking.DEFAULT_COST
    assert (cost.passes, cost.memory_kib, cost.lanes) == (3, 2**16, 4)


def test_argon2id_is_the_rfcs() -> None:
    """The reference implementation's own test: argon2id, 2 passes, 64 MiB, 1 lane."""
    wanted = "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"
    derived = unlocking._argon2id("password", b"somesalt", Cost(2, 2**16, 1))
    assert derived.hex() == wanted


def test_records_that_are_there_already_are_counted_and_skipped(home: Path) -> None:
    later = record_of("fact", {"text": SECRET}, at="2026-01-01T00:00:00+00:00")
    rating = record_of(
        "rating", {"item": "a", "title": "b", "value": 4.5, "tags": ["c"]}, None, "train"
    )
    with Vault.open(home, words()) as vault:
        added = vault.records.add([RECORD, later, rating, later], "again.jsonl")
        assert (added.new, added.known) == (2, 2)
        assert vault.records.all() == [RECORD, later, rating]
        assert vault.records.all("rating") == [rating]
        assert vault.records.counts() == {"fact": 2, "rating": 1}


def test_without_a_time_a_repetition_in_one_source_is_not_a_duplicate(home: Path) -> None:
    said = [
        record_of("message", {"text": t, "author": "me", "conversation": "c"}) for t in ("ok", "no")
    ]
    with Vault.open(home, words()) as vault:
        first = vault.records.add([said[0], said[1], said[0]], "chat")
        assert (first.new, first.known) == (3, 0)
        longer = vault.records.add([said[0], said[1], said[0], said[0]], "chat")
        assert (longer.new, longer.known) == (1, 3)
        assert [r.values["text"] for r in vault.records.all("message")] == ["ok", "no", "ok", "ok"]


def test_an_import_that_fails_leaves_nothing(home: Path) -> None:
    def failing() -> Any:
        yield record_of("fact", {"text": "one"})
        raise ValueError

    with Vault.open(home, words()) as vault:
        with pytest.raises(ValueError):
            vault.records.add(failing(), "broken")
        assert vault.records.all() == [RECORD]


def test_the_journal_notes_time_and_federation(tmp_path: Path) -> None:
    store = Store(sqlite3.connect(":memory:", isolation_level=None), "memory", clock=lambda: 77.5)
    store.journal(Upload("run", 1, 0, "advertise", 5))
    store.put("federation", json.dumps({"name": "home"}).encode())
    store.journal(Upload("run", 1, 0, "update", 6))
    first, second = store.uploads()
    assert (first.at, first.federation) == (77, "")
    assert (second.at, second.federation) == (77, "home")


@pytest.mark.parametrize("version", sorted((Path(__file__).parent / "vaults").iterdir()))
def test_vaults_of_earlier_versions_still_open(tmp_path: Path, version: Path) -> None:
    """Files as they were written then; a new version of the tables adds a folder."""
    shutil.copytree(version, tmp_path / "home")
    with Vault.open(tmp_path / "home", words()) as vault:
        vault.check()
        assert vault.records.all() == [RECORD]
        assert vault.store.ledger.releases() == [OLD]
        again = epsilon([OLD], 1e-5)  # 1.25 was noted, for one example where two can change
        assert vault.store.ledger.spent("record") == Spent(again, 1e-5)
        assert vault.store.ledger.spent("user") == Spent(2.5, 1e-6)
        assert vault.store.uploads() == [Upload("run", 1, 0, "update", 42)]
        assert vault.store.get("key") == b"value"


def test_a_store_of_version_2_is_carried_on(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "device.db", isolation_level=None)
    db.executescript(MIGRATIONS[0] + MIGRATIONS[1])
    values = "(1, 'run', 1, 0, 'record', 1.5, 0.5, 3, NULL, 'aa', '0.1.0', 5)"
    db.execute(f"INSERT INTO releases VALUES {values}")
    db.execute("INSERT INTO uploads VALUES (1, 'run', 1, 0, 'update', 42)")
    db.execute("PRAGMA user_version=2")
    db.close()
    store = Store.open(tmp_path / "device.db")
    assert store.ledger.releases() == [OLD]
    assert store.ledger.spent("record") is None
    assert store.ledger.spent("user") == Spent(0.0, 0.0)
    assert store.uploads() == [Upload("run", 1, 0, "update", 42)]
    store.close()


def test_two_processes_may_migrate_at_once(tmp_path: Path) -> None:
    """Each thread has its own connection, as two processes have."""
    failures: list[BaseException] = []

    def opened() -> None:
        try:
            Store.open(tmp_path / "device.db").close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=opened) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
