"""Whole simulated runs with the tiny model, through the command line's own code."""

from __future__ import annotations

import json
import re
import resource
from pathlib import Path
from typing import Any

import pytest
from made_up_people import Runner, write_people

from client.vault.ledger import RECORD, USER
from client.vault.store import Store
from simulations.cli import main

REPORT_KEYS = {
    "scenario", "task", "model", "engine", "seed", "users", "rounds", "sharing", "version",
    "settings", "metrics", "intervals", "metric_names", "per_user", "privacy",
    "secure_aggregation", "rounds_log", "evaluations", "timing",
}  # fmt: skip


def untimed(report: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in report.items() if key != "timing"}
    kept["rounds_log"] = [entry | {"seconds": 0} for entry in report["rounds_log"]]
    return kept


def test_the_report_has_the_shape_others_rely_on(run: Runner, people: Path, tmp_path: Path) -> None:
    report = run(people)
    assert set(report) == REPORT_KEYS
    assert set(report["metrics"]) == {"base", "shared", "personal", "local"}
    assert set(report["metrics"]["base"]) == {"perplexity", "nll", "next_token_accuracy"}
    assert [entry["status"] for entry in report["rounds_log"]] == ["done", "done"]
    assert all(person["train"] == 8 and person["heldout"] == 2 for person in report["per_user"])
    assert 0 < report["privacy"]["record"]["epsilon"] <= 8.0
    assert report["privacy"]["user"] is None
    assert "<svg" in (tmp_path / "run/report.html").read_text()


def test_same_seed_same_report_except_timings(run: Runner, people: Path) -> None:
    options = ("--epsilon", "50", "--learning-rate", "5")
    first, second = run(people, "a", *options), run(people, "b", *options)
    assert untimed(first) == untimed(second)
    other = run(people, "c", *options, "--seed", "1")
    assert other["rounds_log"][1]["adapter_sha256"] != first["rounds_log"][1]["adapter_sha256"]


@pytest.mark.parametrize("sharing", ["ffa", "fedsa", "lora"])
def test_without_dp_the_shared_adapter_learns(run: Runner, people: Path, sharing: str) -> None:
    options = ("--no-dp", "--sharing", sharing, "--rounds", "3", "--learning-rate", "0.02")
    report = run(people, "run", *options, "--sample-rate", "1", "--modules", "q_proj,v_proj")
    assert report["privacy"] == {"record": None, "user": None}
    assert report["metrics"]["shared"]["nll"] < report["metrics"]["base"]["nll"]
    assert report["metrics"]["personal"]["nll"] < report["metrics"]["base"]["nll"]


def test_dropouts_are_survived_or_the_round_is_abandoned(run: Runner, tmp_path: Path) -> None:
    data = write_people(tmp_path / "eight", 8)
    report = run(data, "run", "--dropout", "0.25", "--rounds", "6")
    log = report["rounds_log"]
    assert len(log) == 6
    assert report["secure_aggregation"]["dropped"] > 0
    for entry in log:
        assert entry["status"] == "abandoned" or entry["survivors"] >= 6
    assert {entry["status"] for entry in log} == {"done", "abandoned"}  # both happen at seed 0


def test_an_abandoned_round_changes_no_adapter_and_is_charged(run: Runner, tmp_path: Path) -> None:
    data = write_people(tmp_path / "eight", 8)
    report = run(data, "run", "--dropout", "0.25", "--rounds", "6")
    log = report["rounds_log"]
    before = "start"
    for entry in log:
        if entry["status"] == "abandoned" and before != "start":
            assert entry["adapter_sha256"] == before
        before = entry["adapter_sha256"]
    assert max(person["epsilon"] for person in report["per_user"]) <= 8.0


def test_a_run_interrupted_between_rounds_resumes_to_the_same_adapter(
    run: Runner, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import server.app
    from simulations.cli import main

    whole = run(people, "whole", "--rounds", "3")
    real, calls = server.app.run_round, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(server.app, "run_round", interrupted)
        run(people, "cut", "--rounds", "3", exit_code=130)
    assert main(["run", "--resume", "--out", str(tmp_path / "cut"), "--quiet"]) == 0
    resumed = json.loads((tmp_path / "cut/report.json").read_text())
    first, second = whole["rounds_log"], resumed["rounds_log"]
    assert [e["round"] for e in second] == [1, 2, 3]
    assert first[1]["adapter_sha256"] == second[1]["adapter_sha256"]


def test_epsilon_counts_an_update_lost_to_a_crash(
    run: Runner, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after the devices trained: the repeated round is a further release, and is charged."""
    import server.round.one_round
    from client.vault.store import Store
    from simulations.cli import main

    def crash(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(server.round.one_round, "dequantize", crash)
        run(people, "cut", exit_code=130)
    assert main(["run", "--resume", "--out", str(tmp_path / "cut"), "--quiet"]) == 0
    report = json.loads((tmp_path / "cut/report.json").read_text())
    store = Store.open(tmp_path / "cut/devices/00000.db")
    releases = store.ledger.trainings()
    store.close()
    assert len(releases) == 3  # one lost, two that count
    assert releases[1].noise_multiplier > releases[0].noise_multiplier
    assert all(person["epsilon"] <= 8.0 for person in report["per_user"])


def test_a_run_is_not_resumed_on_other_data(
    run: Runner, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from simulations import devices
    from simulations.cli import main
    from simulations.scenarios import folder

    run(people, "run", "--rounds", "1", "--personal-epochs", "0")
    file = people / "person001.jsonl"
    file.write_text(file.read_text().replace('"text": "', '"text": "oh, '))
    for kept in (devices.people, devices.everything, folder.people):
        kept.cache_clear()  # as a new process would
    assert main(["run", "--resume", "--out", str(tmp_path / "run"), "--quiet"]) == 2
    assert "data changed" in capsys.readouterr().err


def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of all messages that devices answered, in order."""
    from simulations.engines.local import LocalGrid

    heard: list[str] = []
    deliver = LocalGrid._deliver

    def noted(self: LocalGrid, message: Any) -> str:
        heard.append(message.metadata.message_type)
        return deliver(self, message)

    monkeypatch.setattr(LocalGrid, "_deliver", noted)
    return heard


def test_a_round_after_the_first_takes_three_exchanges(
    run: Runner, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = answers(monkeypatch)
    report = run(people, "run", "--rounds", "4")
    assert [entry["survivors"] for entry in report["rounds_log"]] == [5] * 4
    later = ["train.update"] * 5 + ["query.confirm"] * 5 + ["query.reveal"] * 5
    cold = ["query.advertise"] * 5 + ["query.share"] * 5 + ["query.open"] * 5 + later
    assert heard == cold + later * 3


def test_newcomers_join_while_the_round_before_goes_on(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sampled cohorts: who is new is asked for keys and shares in messages of its own."""
    data = write_people(tmp_path / "many", 24, answers=5)
    options = ("--cohort", "12", "--examples", "4", "--personal-epochs", "0", "--rounds", "5")
    heard = answers(monkeypatch)
    report = run(data, "run", *options)
    log = report["rounds_log"]
    assert [entry["status"] for entry in log] == ["done"] * 5
    assert heard.count("train.update") == sum(entry["cohort"] for entry in log)
    first = log[0]["cohort"]
    newcomers = heard.count("query.advertise") - first
    assert 0 < newcomers < sum(entry["cohort"] for entry in log[1:])
    assert heard.count("query.share") == heard.count("query.advertise")


def test_after_many_losses_the_next_round_starts_cold(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of eight lost before they could advertise: everybody is asked again, from the start."""
    import server.round.setup

    def lost(_: float, __: int, number: int, attempt: int, nodes: list[int]) -> Any:
        gone = set(nodes[:2]) if (number, attempt) == (1, 0) else set()
        return lambda node, leg: leg == "update" and node in gone

    monkeypatch.setattr(server.round.setup, "simulated_losses", lost)
    heard = answers(monkeypatch)
    report = run(write_people(tmp_path / "eight", 8), "run", "--rounds", "2")
    assert [entry["survivors"] for entry in report["rounds_log"]] == [6, 8]
    assert heard.count("query.advertise") == 8 + 8


@pytest.mark.long
def test_two_hundred_users_in_flat_memory_and_any_order(run: Runner, tmp_path: Path) -> None:
    data = write_people(tmp_path / "many", 200, answers=5)
    options = ("--cohort", "20", "--examples", "4", "--personal-epochs", "0")
    run(data, "warm", *options, "--rounds", "2")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = run(data, "long", *options, "--rounds", "12")
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 60  # ten more rounds of twenty clients
    assert len(report["per_user"]) == 200
    cohorts = [entry["cohort"] for entry in report["rounds_log"]]
    assert len(set(cohorts)) > 1  # Poisson, not a fixed size
    assert 10 < sum(cohorts) / len(cohorts) < 30


def test_the_order_in_which_clients_answer_changes_nothing(
    run: Runner, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from simulations.engines.local import LocalGrid

    straight = run(people, "straight")
    real = LocalGrid.send_and_receive

    def backwards(self: LocalGrid, messages: Any, **options: Any) -> Any:
        return list(real(self, list(messages)[::-1], **options))

    monkeypatch.setattr(LocalGrid, "send_and_receive", backwards)
    turned = run(people, "turned")
    assert untimed(straight) == untimed(turned)


def test_each_round_is_told_with_what_it_had_cost_by_then(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not with the next round's, in which the first devices are when the line is written."""
    out = tmp_path / "told"
    options = ["run", "--data", str(people), "--model", "tiny", "--examples", "8"]
    options += ["--rounds", "3", "--personal-epochs", "0", "--user-epsilon", "6"]
    assert main([*options, "--out", str(out)]) == 0
    words = " ".join(capsys.readouterr().err.split())
    told = re.findall(r"round \d/3 .*? ε ([\d.]+) of 8 an example, ε ([\d.]+) of 6 a person", words)
    store = Store.open(out / "devices/00000.db")
    lines = store.ledger.entries()
    store.close()
    spent = [
        [f"{one.spent.epsilon:.2f}" for one in lines if one.spent and one.guarantee == guarantee]
        for guarantee in (RECORD, USER)
    ]
    assert told == list(zip(*spent, strict=True))
    assert len(set(told)) == 3
