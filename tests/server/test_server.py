"""The registry through crashes, the rules, the terms, the sampling of cohorts."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import ConfigRecord, Context, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from common.adapter.plan import AdapterPlan, Site
from common.adapter.weights import Shared
from common.errors import InputError, PrivityError, RoundAbandonedError
from common.privacy.user_level import user_epsilon
from common.rounds.round_terms import round_terms
from common.rounds.run_folder import FEDERATION
from common.settings import TABLE, RoundSettings, Settings, UserLevel, from_mapping
from server import app
from server.registry.goal import maker_of_rounds
from server.registry.registry import Registry, RoundEntry, RuleState
from server.round import aggregation
from server.round.cohort import LOSSES_AT, Cohort, Messenger, poisson_sample, simulated_losses
from server.round.noise_plan import check_reachable, plan_noise
from server.round.one_round import hand_out
from server.round.setup import Federation, ask

PLAN = AdapterPlan("toy", (Site("layer", 3, 4),), 2, 2.0, 0, "ffa")
START = "00" * 32


def entry(number: int, status: str, shared: Shared) -> RoundEntry:
    return RoundEntry(number, status, 5, 5, 0.1, shared.digest())


def shared(value: float) -> Shared:
    return Shared(PLAN, np.full(PLAN.dimension, value, dtype=np.float32))


class Nodes:
    """A Grid whose nodes answer whatever they are asked, if they are there."""

    def __init__(self, there: set[int]) -> None:
        self.there, self.asked = there, []
        self._waiting: dict[str, Any] = {}

    def push_messages(self, messages: list[Any]) -> list[str]:
        names = [f"{len(self.asked)}/{message.metadata.dst_node_id}" for message in messages]
        for name, message in zip(names, messages, strict=True):
            node, leg = message.metadata.dst_node_id, next(iter(message.content))
            answer = RecordDict({leg: ConfigRecord({"body": b"x"})})
            metadata = SimpleNamespace(src_node_id=node, reply_to_message_id=name)
            reply = SimpleNamespace(metadata=metadata, has_error=lambda: False, content=answer)
            if node in self.there:
                self._waiting[name] = reply
        self.asked.append({message.metadata.dst_node_id for message in messages})
        return names

    def pull_messages(self, names: set[str]) -> list[Any]:
        return [self._waiting.pop(name) for name in names if name in self._waiting]


def test_an_adapter_is_handed_to_those_who_answered_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for who has gone: no answer of node 3 would ever come."""
    for name in ("run_id", "task_id", "node_id"):
        monkeypatch.setattr(TaskIdentity, f"_{name}", 1)
    grid, registry = Nodes({1, 2}), Registry(tmp_path, PLAN)
    messenger = Messenger(grid, 3600.0)  # type: ignore[arg-type]
    registry.publish(
        entry(1, "done", shared(0.1)), shared(0.1), RuleState.fresh(PLAN.dimension), START
    )
    cohort = Cohort(1, 0, [1, 2, 3], lambda *_: False)
    answers, _ = messenger.exchange(
        ask(cohort, "confirm", dict.fromkeys(cohort.members, b"")), enough=lambda: True
    )
    assert set(answers) == {1, 2}
    assert messenger.silent == {3}
    key, online = Ed25519PrivateKey.generate().public_key(), lambda: [1, 2, 3]
    federation = Federation(Settings(), registry, key, "run", online, lambda: 1, messenger)
    assert hand_out(federation, lambda: False) == 2
    assert grid.asked == [{1, 2, 3}, {1, 2}]


def test_who_fetches_a_model_makes_rounds_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The conductor stops a run that nobody takes up, and starts another."""
    makers = []

    def fetch(_: Settings) -> None:
        makers.append(maker_of_rounds(tmp_path))
        raise PrivityError("no network")

    monkeypatch.setenv(FEDERATION, str(tmp_path))
    monkeypatch.setattr(app, "adapter_plans", fetch)
    context = Context(1, 1, {}, RecordDict(), dict(Settings().to_dict()))
    with pytest.raises(PrivityError, match="no network"):
        app.main(None, context)  # type: ignore[arg-type]
    assert makers == [os.getpid()]
    assert maker_of_rounds(tmp_path) is None


def test_the_registry_remembers_across_processes(tmp_path: Path) -> None:
    registry = Registry(tmp_path, PLAN)
    state = RuleState(3, np.ones(PLAN.dimension, np.float32), np.ones(PLAN.dimension, np.float32))
    registry.publish(entry(1, "done", shared(0.5)), shared(0.5), state, START)
    registry.abandon(entry(2, "abandoned", shared(0.5)))
    reopened = Registry(tmp_path, PLAN)
    adapter, found = reopened.latest()
    assert adapter.digest() == shared(0.5).digest()
    assert found.steps == 3
    assert np.array_equal(found.second, state.second)
    assert [e.status for e in reopened.rounds()] == ["done", "abandoned"]


def test_a_crash_before_the_round_file_leaves_no_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(tmp_path, PLAN)
    registry.publish(
        entry(1, "done", shared(0.1)), shared(0.1), RuleState.fresh(PLAN.dimension), START
    )

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Registry, "_finish", crash)
    with pytest.raises(KeyboardInterrupt):
        registry.publish(
            entry(2, "done", shared(9.0)), shared(9.0), RuleState.fresh(PLAN.dimension), START
        )
    monkeypatch.undo()
    reopened = Registry(tmp_path, PLAN)
    assert len(reopened.rounds()) == 1
    assert reopened.latest()[0].digest() == shared(0.1).digest()


def test_a_changed_adapter_is_refused(tmp_path: Path) -> None:
    registry = Registry(tmp_path, PLAN)
    fresh = RuleState.fresh(PLAN.dimension)
    registry.publish(entry(1, "done", shared(0.1)), shared(0.1), fresh, START)
    with (tmp_path / "adapters/0001.npz").open("wb") as stream:
        np.savez(stream, vector=shared(0.2).vector, **asdict(fresh))
    with pytest.raises(PrivityError, match="round 1"):
        registry.latest()


def test_attempts_are_counted(tmp_path: Path) -> None:
    registry = Registry(tmp_path, PLAN)
    assert [registry.open_attempt(1), registry.open_attempt(1), registry.open_attempt(2)] == [
        0,
        1,
        0,
    ]


def test_fedavg_adds_the_mean_and_fedadam_moves_by_its_rate() -> None:
    current, mean = np.zeros(3, np.float32), np.array([0.1, -0.2, 0.0], np.float32)
    average, _ = aggregation.apply(
        Settings.of(rule="fedavg", server_rate=0.5).training, RuleState.fresh(3), current, mean
    )
    assert np.allclose(average, [0.05, -0.1, 0.0])
    adam, state = aggregation.apply(
        Settings.of(rule="fedadam", server_rate=0.5).training, RuleState.fresh(3), current, mean
    )
    assert np.allclose(adam, [0.5, -0.5, 0.0], atol=1e-5)  # the first step is the sign
    assert state.steps == 1


def test_terms_bind_the_settings_and_the_cohort() -> None:
    settings = Settings.of(users=8)
    digests = {
        round_terms(chosen, 10, "r", number, attempt, cohort).digest()
        for chosen, number, attempt, cohort in [
            (settings, 1, 0, 8),
            (settings, 2, 0, 8),
            (settings, 1, 1, 8),
            (settings, 1, 0, 7),
            (Settings.of(users=8, epsilon=9.0), 1, 0, 8),
        ]
    }
    assert len(digests) == 5
    elsewhere = Settings.of(users=8, out="/elsewhere", engine="flower")
    assert elsewhere.digest() == settings.digest()


def test_no_sum_of_a_whole_cohort_can_wrap() -> None:
    for cohort in (3, 8, 100, 1000):
        terms = round_terms(Settings.of(users=cohort), 10, "r", 1, 0, cohort)
        assert cohort * terms.levels < 2 ** (terms.bits - 1)


def test_losses_that_no_round_survives_are_refused_beforehand() -> None:
    check_reachable(Settings.of(users=8, dropout=0.25), 10)
    with pytest.raises(InputError, match="6 are needed"):
        check_reachable(Settings.of(users=8, dropout=0.3), 10)
    with pytest.raises(InputError, match="modulus"):
        check_reachable(Settings.of(users=200, user_epsilon=0.001, modulus_bits=16), 10)


def test_user_level_noise_is_planned_to_the_budget_and_counts_what_was_spent() -> None:
    """k rounds of one ρ each, and after a lost attempt the rest share what is left."""
    settings = Settings.of(users=8, rounds=4, user_epsilon=2.0)
    noise = plan_noise(settings.rounds, settings.user, (), 1)
    rho = 1 / (2 * noise**2)
    assert user_epsilon([rho] * 4, settings.user.delta) == pytest.approx(2.0, rel=1e-3)
    assert user_epsilon([rho] * 4, settings.user.delta) <= 2.0
    later = plan_noise(settings.rounds, settings.user, [rho, rho], 2)  # round 1 took two attempts
    rest = 1 / (2 * later**2)
    assert later > noise
    assert user_epsilon([rho, rho, *[rest] * 3], settings.user.delta) <= 2.0
    assert plan_noise(RoundSettings(), UserLevel(), (), 1) == 0.0
    with pytest.raises(RoundAbandonedError):
        plan_noise(settings.rounds, settings.user, [rho] * 9, 4)


def test_poisson_cohorts_are_independent_draws() -> None:
    """1,000 rounds of 50 nodes at 0.2: mean size 10, standard error 0.09."""
    nodes = list(range(50))
    sizes = [len(poisson_sample(nodes, 0.2, 1, number, 0)) for number in range(1000)]
    assert abs(sum(sizes) / 1000 - 10) < 5 * (50 * 0.2 * 0.8 / 1000) ** 0.5
    variance = sum((size - 10) ** 2 for size in sizes) / 1000
    assert 6 < variance < 10  # 50 × 0.2 × 0.8 = 8
    assert poisson_sample(nodes, 1.0, 1, 1, 0) == nodes


def test_simulated_dropouts_lose_the_stated_share_at_every_leg() -> None:
    nodes = list(range(1000))
    lost = simulated_losses(0.2, 1, 1, 0, nodes)
    by_leg = {leg: sum(lost(node, leg) for node in nodes) for leg in LOSSES_AT}
    assert 140 < sum(by_leg.values()) < 260
    assert min(by_leg.values()) > 15


def test_the_run_configuration_in_pyproject_is_the_table_of_settings() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    config = project["tool"]["flwr"]["app"]["config"]
    assert from_mapping(config) == Settings()
    assert list(config) == list(TABLE)


def test_every_setting_is_documented() -> None:
    for name, setting in TABLE.items():
        assert len(setting.field.metadata["help"]) > 10, name


def test_settings_survive_json() -> None:
    settings = Settings.of(users=7, epsilon=3.0)
    assert from_mapping(json.loads(json.dumps(settings.to_dict()))) == settings
    with pytest.raises(InputError, match="nonsense"):
        from_mapping({"nonsense": 1})
    with pytest.raises(InputError, match="rounds"):
        from_mapping({"rounds": "three"})
