"""A device's store, its refusals, and what an error may say."""

from __future__ import annotations

import dataclasses
import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from deployment import wait_for
from made_up_people import Runner, write_people
from other_steps import with_steps

from client.federation import participation
from client.federation.acceptance import check_terms
from client.vault.database import MIGRATIONS
from client.vault.ledger import Charge
from client.vault.store import Store, Upload
from common.errors import InputError, PrivityError, ProtocolError
from common.learning.backbone import adapter_plans
from common.privacy.accountant import Release
from common.rounds.round_terms import round_terms
from common.secagg import RoundTerms
from common.settings import Settings, from_mapping
from simulations.cli import main

RELEASE, COUNT = Release(1.5, 0.5, 3), Release(7.5, 1.0, 1)
OLD = Release(0.75, 0.5, 3)  # of a version in which one example more could change two


def charge(round_: int = 1, attempt: int = 0, data: str = "aa") -> Charge:
    return Charge("run", round_, attempt, RELEASE, 0.25, data, count=COUNT)


def test_the_store_remembers(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "device.db")
    store.ledger.charge(charge())
    store.journal(Upload("run", 1, 0, "update", 42))
    store.put("key", b"value")
    store.close()
    again = Store.open(tmp_path / "device.db")
    assert again.ledger.trainings() == [RELEASE]
    assert again.ledger.user_rhos() == [0.25]
    assert again.uploads() == [Upload("run", 1, 0, "update", 42)]
    assert again.get("key") == b"value"
    assert again.keys("k") == ["key"]
    again.drop("key")
    assert again.get("key") is None


def test_one_attempt_is_charged_once(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "device.db")
    store.ledger.charge(charge())
    with pytest.raises(ProtocolError, match="charged already"):
        store.ledger.charge(charge())
    store.ledger.charge(charge(attempt=1))
    assert len(store.ledger.trainings()) == len(store.ledger.user_rhos()) == 2


def test_each_release_names_its_data(tmp_path: Path) -> None:
    """A person's records grow while a federation lives; every row says what it was about."""
    store = Store.open(tmp_path / "device.db")
    store.ledger.charge(charge())
    store.ledger.charge(charge(round_=2, data="bb"))
    found = store._db.execute("SELECT DISTINCT round, data FROM releases ORDER BY round").fetchall()
    assert found == [(1, "aa"), (2, "bb")]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM releases",
        "UPDATE releases SET noise_multiplier = 1000",
        "UPDATE releases SET rho = 0 WHERE guarantee = 'user'",
        "INSERT OR REPLACE INTO releases (run, round, attempt, guarantee, noise_multiplier,"
        " sample_rate, steps, data, version, at)"
        " VALUES ('run', 1, 0, 'record', 9, 1, 0, '', '', 0)",
    ],
)
def test_what_was_charged_cannot_be_taken_back(tmp_path: Path, statement: str) -> None:
    store = Store.open(tmp_path / "device.db")
    store.ledger.charge(charge())
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        store._db.execute(statement)
    assert store.ledger.trainings() == [RELEASE]
    assert store.ledger.user_rhos() == [0.25]


def test_a_ledger_of_version_1_is_carried_on(tmp_path: Path) -> None:
    """Its releases count at record level, and as unbounded at user level."""
    database = sqlite3.connect(tmp_path / "device.db")
    database.executescript(MIGRATIONS[0])
    database.execute("INSERT INTO ledger VALUES (1, 'run', 1, 0, 1.5, 0.5, 3)")
    database.execute("PRAGMA user_version=1")
    database.commit()
    database.close()
    store = Store.open(tmp_path / "device.db")
    assert store.ledger.releases() == [OLD]
    assert store.ledger.user_rhos() == [float("inf")]
    with pytest.raises(ProtocolError, match="charged already"):
        store.ledger.charge(charge())
    assert store.ledger.counts() == []  # its windows were not set by a count
    store.ledger.charge(charge(round_=2))  # a run that it began goes on
    assert store.ledger.releases() == [OLD, RELEASE, COUNT]


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path / "device.db").close()
    database = sqlite3.connect(tmp_path / "device.db")
    database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(PrivityError, match="99"):
        Store.open(tmp_path / "device.db")


KILLED = """
import os, signal
from client.federation import participation
from simulations.cli import main

real = participation.{at}

def kill(*arguments):
    if {when}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)

participation.{at} = kill
main({arguments!r})
"""


@pytest.mark.parametrize(
    ("at", "when"),
    [("train", "True"), ("to_ring", "True"), ("_journal", "arguments[2] == 'update'")],
)
def test_kill_9_between_charge_and_send_never_under_counts(
    people: Path, tmp_path: Path, at: str, when: str
) -> None:
    """Killed right after the charge, before masking, and before the first masked update leaves.

    What is resumed charges again, and masks with other keys.
    """
    out = tmp_path / "run"
    options = ["run", "--data", str(people), "--model", "tiny", "--examples", "8", "--quiet"]
    options += ["--rounds", "2", "--personal-epochs", "0", "--out", str(out)]
    code = KILLED.format(at=at, when=when, arguments=options)
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode == -signal.SIGKILL
    store = Store.open(out / "devices/00000.db")
    assert len(store.ledger.trainings()) == 1
    assert not [upload for upload in store.uploads() if upload.what == "update"]
    assert main(["run", "--resume", "--quiet", "--out", str(out)]) == 0
    first, *rest = store.ledger.trainings()
    assert len(rest) == 2
    assert all(release.noise_multiplier > first.noise_multiplier for release in rest)
    sent = [(upload.round, upload.attempt) for upload in store.uploads() if upload.what == "update"]
    assert sent == [(1, 1), (2, 1)]  # the second attempt at both: the second round rode along
    report = json.loads((out / "report.json").read_text())
    assert report["privacy"]["record"]["epsilon"] <= 8.0
    store.close()


LEGS = ("advertise", "share", "update", "confirm", "reveal")


def test_asked_again_a_device_sends_the_same_bytes_and_is_charged_once(
    run: Runner, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(leg: Any, answers: list[tuple[bytes, bytes]]) -> Any:
        def asked(*arguments: Any) -> bytes:
            answers.append((leg(*arguments), leg(*arguments)))
            return answers[-1][0]

        return asked

    sent: dict[str, list[tuple[bytes, bytes]]] = {leg: [] for leg in LEGS}
    for leg in LEGS:
        monkeypatch.setattr(participation, leg, twice(getattr(participation, leg), sent[leg]))
    report = run(people, "run")
    assert [len(sent[leg]) for leg in LEGS] == [10] * 5
    assert all(first == second for answers in sent.values() for first, second in answers)
    assert [entry["status"] for entry in report["rounds_log"]] == ["done", "done"]
    store = Store.open(tmp_path / "run/devices/00000.db")
    assert len(store.ledger.trainings()) == 2
    journal = [upload.what for upload in store.uploads()]
    assert all(journal.count(leg) == journal.count(f"{leg} again") == 2 for leg in LEGS)
    assert not store.keys("round/")  # the secrets of both rounds are gone
    store.close()


def test_asked_for_the_same_round_with_another_adapter_a_device_drops_out(
    run: Runner, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = participation.update, []

    def other(device: Any, settings: Any, number: int, inbox: bytes, adapter: bytes) -> bytes:
        real(device, settings, number, inbox, adapter)
        with pytest.raises(PrivityError) as caught:
            real(device, settings, number, inbox, bytes(len(adapter) - 4) + b"\0\0\x80?")
        refused.append(caught.value)
        raise caught.value

    monkeypatch.setattr(participation, "update", other)
    report = run(people, "run", "--rounds", "1", exit_code=1)
    assert len(refused) == 5
    assert [entry["status"] for entry in report["rounds_log"]] == ["abandoned"]
    store = Store.open(tmp_path / "run/devices/00000.db")
    assert len(store.ledger.trainings()) == 1
    assert [u.what for u in store.uploads()].count("update") == 1
    store.close()


@pytest.mark.parametrize(
    "change",
    [
        {"cohort": 2, "least": 2, "corrupt": 0, "neighbours": 1, "threshold": 1, "colluders": 0},
        {"training": "0" * 64},
        {"dimension": 3},
        {"clip": 1.0},
        {"bits": 32},
        {"levels": 5},
        {"noise": 3.0},
        {"seed": 7},
        {"least": 5},
        {"corrupt": 0, "colluders": 0},
        {"neighbours": 3, "threshold": 3, "colluders": 1},
        {"round": 4},
        {"round": 0},
    ],
)
def test_terms_that_a_device_refuses(change: dict[str, Any]) -> None:
    settings = Settings.of(model="tiny", users=5)
    terms = round_terms(settings, adapter_plans(settings)[0].dimension, "r", 1, 0, 5)
    check_terms(terms, settings)
    changed = dataclasses.replace(terms, **change)
    with pytest.raises(ProtocolError):
        check_terms(changed, settings)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"cohort": 10_001}, "cohort is 10001, not in 3 to 10000"),
        ({"cohort": 2**17}, "cohort is 131072"),
        ({"attempt": 2**63}, "attempt is 9223372036854775808"),
        ({"attempt": 2**64 - 1}, "attempt is"),
        ({"noise": 2.0**26 + 1}, r"nor in \[2, 2\^26\]"),
        ({"levels": 1}, "with 1 levels"),
        ({"levels": 300}, "levels is 300, wanted"),
    ],
)
def test_absurd_terms_are_refused_before_anything_is_computed_from_them(
    change: dict[str, Any], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.of(model="tiny", users=5, user_epsilon=8.0)
    dimension = adapter_plans(settings)[0].dimension
    good = round_terms(settings, dimension, "r", 1, 2**31, 5, noise_multiplier=2.0)
    check_terms(good, settings)
    if not change.keys() & {"levels", "noise"}:
        monkeypatch.setattr("common.rounds.round_terms.choose", None)  # nothing is computed
    if members := change.get("cohort"):
        change |= {
            "least": members,
            "corrupt": members // 20,
            "bits": 32,
            "levels": 1,
            "noise": 2.0,
        }
    with pytest.raises(ProtocolError, match=match):
        check_terms(dataclasses.replace(good, **change), settings)


@pytest.mark.parametrize("name", ["rounds", "local_steps"])
def test_settings_that_would_keep_a_device_busy_for_days_are_refused(name: str) -> None:
    """A server could have it add up the ε of 2^62 rounds, or train for ever."""
    from_mapping({name: 10_000})
    with pytest.raises(InputError, match="at most 10000"):
        from_mapping({name: 2**62})


def test_terms_without_the_promised_user_level_noise_are_refused() -> None:
    settings = Settings.of(model="tiny", users=5, user_epsilon=8.0)
    dimension = adapter_plans(settings)[0].dimension
    good = round_terms(settings, dimension, "r", 1, 0, 5, noise_multiplier=2.0)
    check_terms(good, settings)
    silent = round_terms(settings, dimension, "r", 1, 0, 5)
    with pytest.raises(ProtocolError, match="noise is 0"):
        check_terms(silent, settings)


def test_another_adapter_than_the_one_agreed_on_is_refused(
    run: Runner, people: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that hands a member another model gets no update from it."""
    import server.round.one_round
    from common.adapter.weights import Shared, encode_shared

    def another(shared: Shared) -> bytes:
        return encode_shared(Shared(shared.plan, shared.vector + 1))

    monkeypatch.setattr(server.round.one_round, "encode_shared", another)
    report = run(people, "run", "--rounds", "1", exit_code=1)
    assert report["rounds_log"][0]["status"] == "abandoned"  # masked under another adapter
    assert "Masked: " in caplog.text


def test_an_unforeseen_error_tells_a_simulations_researcher_its_place_only(
    run: Runner, people: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the words were: garden train music")

    with_steps(monkeypatch, train_shared=broken)
    run(people, "run", "--rounds", "1", exit_code=1)
    assert "5 devices refused: failed" in caplog.text
    assert "RuntimeError at test_client.py" in caplog.text
    assert "garden" not in caplog.text


def test_terms_reach_the_device_whole() -> None:
    terms = RoundTerms("r", 1, 0, 0, 10, 0.05, 24, 1000, 2.5, 5, 4, 1, 4, 3, 1, "0" * 64)
    assert RoundTerms.decode(terms.encode()) == terms


@pytest.mark.long
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_in_a_real_process_and_resume(tmp_path: Path) -> None:
    """SIGINT while rounds are running: exit code 130, and --resume finishes the run."""
    data = write_people(tmp_path / "people", 5)
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-c",
        "import sys; from simulations.cli import main; sys.exit(main())",
    ]
    options = ["run", "--data", str(data), "--model", "tiny", "--examples", "8", "--rounds", "12"]
    rounds = out / "server/rounds"

    def two_made() -> bool:
        assert process.poll() is None
        return len(list(rounds.glob("*.json"))) >= 2

    with subprocess.Popen([*command, *options, "--quiet", "--out", str(out)]) as process:
        wait_for(two_made, 300, "two rounds")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    done = len(list(rounds.glob("*.json")))
    assert 2 <= done < 12
    resumed = subprocess.run(
        [*command, "run", "--resume", "--quiet", "--out", str(out)], check=False
    )
    assert resumed.returncode == 0
    assert len(list(rounds.glob("*.json"))) == 12
    assert (out / "report.json").exists()
