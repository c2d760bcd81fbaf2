"""A device's store, its refusals, and what an error may say."""

from __future__ import annotations

import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Runner, write_people

from client import participation
from client.store import Store, Upload
from common.config import Settings
from common.errors import PrivityError, ProtocolError
from common.privacy.accountant import Release
from common.secagg import RoundTerms

RELEASE = Release(1.5, 0.5, 3)


def test_the_store_remembers(tmp_path: Path) -> None:
    store = Store(tmp_path / "device.db")
    store.charge("run", 1, 0, RELEASE)
    store.journal(Upload("run", 1, 0, "update", 42))
    store.put("key", b"value")
    store.close()
    again = Store(tmp_path / "device.db")
    assert again.releases() == [RELEASE]
    assert again.uploads() == [Upload("run", 1, 0, "update", 42)]
    assert again.get("key") == b"value"
    again.drop("key")
    assert again.get("key") is None


def test_one_attempt_is_charged_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "device.db")
    store.charge("run", 1, 0, RELEASE)
    with pytest.raises(ProtocolError, match="charged already"):
        store.charge("run", 1, 0, RELEASE)
    store.charge("run", 1, 1, RELEASE)
    assert len(store.releases()) == 2


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "device.db").close()
    database = sqlite3.connect(tmp_path / "device.db")
    database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(PrivityError, match="99"):
        Store(tmp_path / "device.db")


def test_a_charge_survives_kill_9(tmp_path: Path) -> None:
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom client.store import Store\n"
        "from common.privacy.accountant import Release\n"
        f"store = Store(Path({str(tmp_path / 'device.db')!r}))\n"
        "store.charge('run', 1, 0, Release(1.5, 0.5, 3))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert Store(tmp_path / "device.db").releases() == [RELEASE]


@pytest.mark.parametrize(
    "change",
    [
        {"cohort": 2, "neighbours": 1, "threshold": 1, "colluders": 0},
        {"training": "0" * 64},
        {"dimension": 3},
        {"clip": 1.0},
        {"bits": 32},
        {"levels": 5},
        {"seed": 7},
        {"threshold": 2},
        {"neighbours": 2, "threshold": 2, "colluders": 0},
        {"round": 4},
        {"round": 0},
    ],
)
def test_terms_that_a_device_refuses(change: dict[str, Any]) -> None:
    from common.adapter.state import Shared
    from common.backbone import adapter_plans
    from server.terms import round_terms

    settings = Settings(model="tiny", users=5)
    plan = adapter_plans(settings)[0]
    terms = round_terms(settings, Shared(plan, plan.initial(plan.sent)), "r", 1, 0, 5)
    participation._check_policy(terms, settings)
    with pytest.raises(ProtocolError):
        participation._check_policy(dataclasses.replace(terms, **change), settings)


def test_another_adapter_than_the_one_agreed_on_is_refused(
    run: Runner, people: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that hands a member another model gets no update from it."""
    import server.rounds
    from common.adapter.state import Shared, encode_shared

    def another(shared: Shared) -> bytes:
        return encode_shared(Shared(shared.plan, shared.vector + 1))

    monkeypatch.setattr(server.rounds, "encode_shared", another)
    report = run(people, "run", "--rounds", "1")
    assert report["rounds_log"][0]["status"] == "abandoned"
    assert "ProtocolError" in caplog.text
    assert report["per_user"][0]["epsilon"] == 0.0  # refused before anything was charged


def test_an_unforeseen_error_tells_its_kind_and_place_only(
    run: Runner, people: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("the words were: garden train music")

    monkeypatch.setattr(participation, "train_shared", broken)
    run(people, "run", "--rounds", "1")
    assert "RuntimeError at test_client.py" in caplog.text
    assert "garden" not in caplog.text


def test_terms_reach_the_device_whole() -> None:
    terms = RoundTerms(
        "r", 1, 0, "0" * 64, 0, 10, 0.05, 24, 1000, 5, 4, 3, 1, "0" * 64
    )  # fmt: skip
    assert RoundTerms.decode(terms.encode()) == terms


@pytest.mark.long
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
    process = subprocess.Popen([*command, *options, "--quiet", "--out", str(out)])
    rounds = out / "server/rounds"
    while not (rounds.exists() and len(list(rounds.glob("*.json"))) >= 2):
        assert process.poll() is None
        os.sched_yield()
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
