"""A round that nobody was charged for has not happened; the others have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_people import Runner
from other_steps import with_steps

from client.federation import participation, steps
from client.vault.store import Store
from common.adapter.plan import AdapterPlan, Site
from common.adapter.weights import Shared
from common.errors import DeclinedError, ProtocolError
from server.cli import main
from server.dashboard.overview import page
from server.dashboard.situation import Observer
from server.deployment.place import Place, create
from server.registry.goal import Plan, last_asked, read_plan, rounds_done, write_plan
from server.registry.registry import Registry, RoundEntry, RuleState, history
from server.round.spending import spent_after

PLAN = AdapterPlan("toy", (Site("layer", 3, 4),), 2, 2.0, 0, "ffa")
WHY = "0 members are left, 3 are needed; 3 devices refused: DeclinedError."


def lost(number: int, *, charged: bool = False) -> RoundEntry:
    return RoundEntry(number, "abandoned", 3, 0, 0.1, "00" * 32, charged, WHY)


def publish(registry: Registry, number: int) -> None:
    shared = Shared(PLAN, np.full(PLAN.dimension, number, dtype=np.float32))
    entry = RoundEntry(number, "done", 3, 3, 0.1, shared.digest())
    registry.publish(entry, shared, RuleState.fresh(PLAN.dimension), "00" * 32)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return create(tmp_path / "ours")


@pytest.fixture
def registry(place: Place) -> Registry:
    return Registry(place.federation / "server", PLAN)


def asked(place: Place, *arguments: str) -> int:
    return main(["run", "--dir", str(place.folder), *arguments])


def test_rounds_that_cost_nothing_leave_the_plan_unspent(place: Place, registry: Registry) -> None:
    """Three attempts asked for are three attempts, and three rounds can still be asked for."""
    assert asked(place, "--rounds", "3", "--no-wait") == 0
    for made in range(3):
        assert last_asked(place.federation, 3) - rounds_done(place.federation) == 3 - made
        registry.abandon(lost(1))
    assert (rounds_done(place.federation), last_asked(place.federation, 3)) == (0, 0)
    assert asked(place, "--rounds", "3", "--no-wait") == 0
    assert (read_plan(place.federation), last_asked(place.federation, 3)) == (Plan(6), 3)
    publish(registry, 1)
    registry.abandon(lost(2, charged=True))
    publish(registry, 3)
    assert (rounds_done(place.federation), last_asked(place.federation, 3)) == (3, 3)
    told = [(one.round, one.status, one.charged) for one in history(place.federation / "server")]
    assert told == [(1, "abandoned", False)] * 3 + [
        (1, "done", True), (2, "abandoned", True), (3, "done", True),
    ]  # fmt: skip
    assert [one.round for one in registry.rounds()] == [1, 2, 3]
    assert asked(place, "--no-wait") == 2  # the plan is spent now


def test_the_dashboard_counts_attempts_and_rounds_apart(place: Place, registry: Registry) -> None:
    write_plan(place.federation, Plan(2))
    registry.abandon(lost(1))
    shown = page(Observer(place, list).look())
    assert "0 of 3 rounds made; asked for up to round 1" in shown
    assert "abandoned, nobody charged" in shown and WHY in shown
    publish(registry, 1)
    assert "1 of 3 rounds made; no more are asked for" in page(Observer(place, list).look())


@pytest.mark.parametrize(("charged", "code"), [(False, 1), (True, 1), (None, 0)])
def test_the_last_word_of_run_is_why_nothing_came_of_it(
    place: Place,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    charged: bool | None,
    code: int,
) -> None:
    """`run` watches what another process keeps: here what it finds each time it has looked."""

    def more(_: float) -> None:
        number = rounds_done(place.federation) + 1
        last = len(history(place.federation / "server")) == 1
        if charged is None and last:
            publish(registry, number)
        else:
            registry.abandon(lost(number, charged=bool(charged)))

    monkeypatch.setattr("server.commands.run.time.sleep", more)
    assert asked(place, "--rounds", "2") == code
    said = capsys.readouterr()
    assert said.out.count("abandoned, 0 of 3 devices") == (1 if charged is None else 2)
    assert ("nobody was charged" in said.out) is (charged is not True)
    if code:
        assert f"All 2 attempts were abandoned: {WHY}" in said.err
        assert "privity-client status" in said.err
    else:
        assert said.err == ""


def test_an_attempt_is_charged_from_the_moment_an_update_is_asked_for(registry: Registry) -> None:
    assert registry.open_attempt(1) == 0
    assert not registry.charged(1, 0)
    registry.note_rho(1, 0, 0.25)
    assert registry.charged(1, 0)
    assert registry.open_attempt(1) == 1
    assert not registry.charged(1, 1)
    assert registry.user_rhos() == [0.25]


def test_a_round_declined_by_all_is_made_again_under_its_number(
    run: Runner, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, declined = steps.SOUND.cost, []

    def cost_of(*given: Any) -> Any:
        if len(declined) < 5:
            declined.append(1)
            raise DeclinedError("not now")
        return real(*given)

    with_steps(monkeypatch, cost=cost_of)
    log = run(people, "run")["rounds_log"]
    outcomes = [(entry["round"], entry["status"], entry["charged"]) for entry in log]
    assert outcomes == [(1, "abandoned", False), (1, "done", True)]
    assert "5 devices refused: DeclinedError" in log[0]["why"]
    registry = Registry(tmp_path / "run/server", PLAN)
    assert len(registry.user_rhos()) == 1
    store = Store.open(next((tmp_path / "run/devices").glob("*.db")))
    assert [(entry.round, entry.attempt) for entry in store.ledger.entries()] == [(1, 1)] * 2
    store.close()
    again = run(people, "run", "--resume")  # nothing is left of what was asked for
    assert again["rounds_log"] == log


def test_a_round_is_spent_once_a_member_was_asked_for_an_update(
    run: Runner, people: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three rounds planned, all abandoned: exit code and reason say so."""

    def confirm(*_: Any) -> Any:
        raise ProtocolError("no")

    monkeypatch.setattr(participation, "confirm", confirm)
    log = run(people, "run", exit_code=1)["rounds_log"]
    outcomes = [(entry["round"], entry["status"], entry["charged"]) for entry in log]
    assert outcomes == [(1, "abandoned", True), (2, "abandoned", True)]
    said = capsys.readouterr().err
    assert "All 2 rounds were abandoned" in said and "5 devices refused: ProtocolError" in said


def test_the_server_states_what_every_attempt_that_charged_may_cost(
    run: Runner, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from common.settings import Settings, from_mapping

    real, failed = participation.confirm, []

    def confirm(*given: Any) -> Any:
        if len(failed) < 5:
            failed.append(1)
            raise ProtocolError("no")
        return real(*given)

    monkeypatch.setattr(participation, "confirm", confirm)
    run(people, "run")
    stored = json.loads((tmp_path / "run/settings.json").read_text())
    settings: Settings = from_mapping(stored)
    spent = json.loads((tmp_path / "run/server/spent.json").read_text())
    assert spent == spent_after(settings, [float("inf")] * 2).to_dict()
