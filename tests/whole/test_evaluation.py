"""The federated evaluation: what is summed, how noisy it is, what it costs, and what it stops."""

from __future__ import annotations

import json
from dataclasses import replace
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from made_up_people import Runner, write_people
from other_steps import with_steps
from scipy import stats

from client.federation import gain as on_device
from client.federation import steps
from client.federation.acceptance import check_terms
from client.federation.budget import next_evaluation, next_release
from client.federation.contribution import summand
from client.vault.ledger import Charge
from client.vault.store import Store
from common.adapter.plan import AdapterPlan, Site
from common.adapter.weights import Shared
from common.errors import InputError, ProtocolError
from common.learning.backbone import adapter_plans
from common.privacy import evaluation
from common.privacy.accountant import Release, epsilon
from common.privacy.noise import gaussian
from common.privacy.releases import count
from common.rounds.round_terms import round_terms
from common.secagg.quantize import clip_norm, quantize_towards_zero
from common.settings import Settings
from server.cli import main as operate
from server.dashboard.metrics import metrics
from server.dashboard.overview import page
from server.dashboard.situation import Observer
from server.deployment.place import create
from server.registry.evaluations import Evaluation, judged
from server.registry.provenance import Spending
from server.registry.registry import Registry, RoundEntry, RuleState, current, evaluations
from server.registry.versions import export, roll_back
from server.round.hold import on_hold, resume
from server.round.spending import spent_after

ON = ("--evaluation-epsilon", "4")
SMALL = Settings.of(model="tiny", users=8, examples=8, rounds=3, evaluation_epsilon=4.0)
PLAN = AdapterPlan("toy", (Site("layer", 3, 4),), 2, 2.0, 0, "ffa")


class Heard:
    """Exact figures by round, before noise, and what each device added."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, noise: bool = True) -> None:
        self.figures: list[float] = []
        self.noise: list[float] = []
        exact, drawn = steps.SOUND.gain, steps.SOUND.figure_noise

        def gain(*arguments: Any) -> float:
            self.figures.append(exact(*arguments))
            return self.figures[-1]

        def gaussian(size: int, std: float, random: Any) -> Any:
            self.noise.append(float(drawn(size, std, random)[0]) if noise else 0.0)
            return np.array([self.noise[-1]])

        with_steps(monkeypatch, gain=gain, figure_noise=gaussian)


@pytest.mark.parametrize("sharing", ["ffa", "fedsa"])
def test_the_sum_holds_the_mean_gain_of_the_devices(
    run: Runner, people: Path, monkeypatch: pytest.MonkeyPatch, sharing: str
) -> None:
    """Without noise it is the plain mean, but for half a step of the grid on each device."""
    heard = Heard(monkeypatch, noise=False)
    options = ("--no-dp", "--rounds", "3", "--sharing", sharing, "--learning-rate", "0.02")
    report = run(people, "run", *ON, *options)
    first, second = report["evaluations"]
    settings = SMALL.but(users=5, dp=False, update_range=0.5)
    terms = round_terms(settings, 1, "r", 1, 0, 5)
    step = evaluation.figure_range(settings) / terms.levels
    assert first["version"] == 1
    assert first["round"] == 2
    assert abs(first["gain"] - np.mean(heard.figures[5:10])) <= step
    assert abs(second["gain"] - np.mean(heard.figures[10:])) <= step
    assert first["gain"] > 0.05  # without privacy a round helps


def test_the_figure_of_the_start_is_nothing(
    run: Runner, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard(monkeypatch, noise=False)
    report = run(people, "run", *ON, "--rounds", "1")
    assert heard.figures == [0.0] * 5
    assert report["evaluations"] == []


def test_the_noise_is_what_is_stated(
    run: Runner, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard(monkeypatch)
    report = run(people, "run", *ON, "--rounds", "2")
    (found,) = report["evaluations"]
    settings = SMALL.but(users=5, rounds=2)
    wanted = np.mean(heard.figures[5:]) + np.mean(heard.noise[5:])
    assert abs(found["gain"] - wanted) < 1e-4
    assert found["noise_std"] == pytest.approx(evaluation.device_std(settings) / 5**0.5)
    assert found["people_std"] == 0  # everybody was there


@pytest.mark.parametrize("user_epsilon", [0.0, 8.0])
def test_the_moments_of_the_noise_in_a_mean(user_epsilon: float) -> None:
    """500 sums of eight devices' figures: the variance within five standard errors, and a KS."""
    settings = SMALL.but(user_epsilon=user_epsilon)
    terms = round_terms(settings, 1, "r", 1, 0, 8, noise_multiplier=2.0 if user_epsilon else 0)
    chance = np.random.default_rng(0)
    random = chance.bytes
    means = []
    for _ in range(500):
        total = np.zeros(2, np.int64)
        for _ in range(8):
            noisy = 0.25 + gaussian(1, evaluation.device_std(settings), random)
            figure = on_device.scaled(noisy, settings)
            total += summand(
                _Counting(random), settings.user, terms, np.zeros(1, np.float32), figure
            )  # type: ignore[arg-type]
        mean = total * (terms.clip / terms.levels) / 8
        means.append(evaluation.split(settings, mean)[1])
    standard = (np.array(means) - 0.25) / evaluation.mean_std(settings, terms, 8)
    assert abs(standard.mean()) < 5 / 500**0.5
    assert abs(standard.var() - 1) < 5 * (2 / 500) ** 0.5
    assert stats.kstest(standard, "norm").pvalue > 1e-3


class _Counting:
    """Enough of a device to draw noise."""

    def __init__(self, random: Any) -> None:
        self.random, self.store, self.randomness = random, self, self
        self.steps = steps.SOUND

    def stream(self, _: str) -> Any:
        return self.random

    def together(self) -> Any:
        import contextlib

        return contextlib.nullcontext()

    def count(self, key: str, more: int) -> None:
        pass


@given(
    some.lists(some.floats(-1e3, 1e3, width=32), min_size=1, max_size=40),
    some.floats(-1e6, 1e6),
    some.floats(1e-4, 10.0),
    some.floats(0.1, 50.0),
)
def test_no_contribution_is_longer_than_its_rho_says(
    values: list[float], figure: float, clip: float, limit: float
) -> None:
    """User level: update and figure together, as integers, are never longer than `levels`."""
    settings = SMALL.but(dp=False, user_epsilon=4.0, user_clip=clip, evaluation_range=limit)
    terms = round_terms(settings, len(values), "r", 1, 0, 8, noise_multiplier=1.0)
    change = clip_norm(np.array(values, np.float32), settings.user.clip)
    both = np.concatenate([change, on_device.scaled(np.array([figure]), settings)])
    assert terms.dimension == both.size
    assert terms.clip == pytest.approx(settings.user.clip * hypot(1, evaluation.SHARE))
    exact = quantize_towards_zero(both, terms.clip, terms.levels).astype(object)
    assert int(np.dot(exact, exact)) <= terms.levels**2


def test_one_answer_moves_a_figure_by_no_more_than_its_share() -> None:
    """And an adapter whose loss is no number counts as bad as can be."""
    import contextlib

    import torch

    class Fixed:
        """Answers of four tokens: these NLLs a token under the base, 0 under the adapter."""

        def __init__(self, *nlls: float) -> None:
            self.next = [torch.tensor(nlls), torch.zeros(len(nlls))]

        def using(self, *_: Any) -> Any:
            return contextlib.nullcontext()

        def batches(self, _: Any) -> list[Any]:
            return [None]

        def losses(self, _: Any) -> Any:
            nlls = self.next.pop(0)
            return 4 * nlls, torch.full_like(nlls, 4.0)

    k, limit = evaluation.counted_answers(SMALL.rounds), SMALL.evaluation.range
    for nlls, clipped in (
        ((9.0,), limit), ((-9.0,), -limit), ((0.5, -7.0), 0.5 - limit),
        ((float("nan"), 1.0), 1.0 - limit), ((float("-inf"),), -limit),
    ):  # fmt: skip
        total = on_device.gain(Fixed(*nlls), np.zeros(0), [], limit, k)  # type: ignore[arg-type]
        assert total == pytest.approx(clipped / k)


def test_all_evaluations_of_a_run_stay_within_their_epsilon_and_all_within_epsilon() -> None:
    trained: list[Release] = []
    scored: list[Release] = []
    counts: list[Release] = []
    for number in (1, 2, 3):
        release = next_release([*trained, *counts, *scored], SMALL, number, scored)
        one = next_evaluation(scored, SMALL, number)
        assert one
        trained.append(release)
        counts.append(count(release.noise_multiplier))
        scored.append(one)
    assert 3.9 < epsilon(scored, SMALL.record.delta) <= 4.0
    assert 7.9 < epsilon([*trained, *counts, *scored], SMALL.record.delta) <= 8.0 * (1 + 1e-9)
    assert len(set(trained)) == len(set(scored)) == 1
    assert next_evaluation(scored, SMALL, 3) is None  # a repeated round: noise alone
    plain = next_release([], SMALL.but(evaluation_epsilon=0.0), 1)
    assert trained[0].noise_multiplier > plain.noise_multiplier


def test_a_repeated_round_uses_up_an_evaluation_and_more_training_noise() -> None:
    first = next_release([], SMALL, 1)
    scored = [evaluation.release(SMALL)]
    trained, counts = [first], [count(first.noise_multiplier)]
    for number in (1, 2, 3):
        trained.append(next_release([*trained, *counts, *scored], SMALL, number, scored))
        counts.append(count(trained[-1].noise_multiplier))
        if one := next_evaluation(scored, SMALL, number):
            scored.append(one)
    assert len(scored) == 3
    assert trained[1].noise_multiplier > first.noise_multiplier
    assert 7.9 < epsilon([*trained, *counts, *scored], SMALL.record.delta) <= 8.0 * (1 + 1e-9)


def test_the_ledger_is_charged_before_anything_of_the_answers_is_looked_at(
    run: Runner, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, charged = steps.SOUND.gain, []

    def gain(*arguments: Any) -> float:
        file = sorted((tmp_path / "run/devices").glob("*.db"))[len(charged) % 5]
        store = Store.open(file)
        charged.append(len(store.ledger.evaluations()))
        store.close()
        return exact(*arguments)

    with_steps(monkeypatch, gain=gain)
    report = run(people, "run", *ON)
    assert charged == [1] * 5 + [2] * 5
    store = Store.open(tmp_path / "run/devices/00000.db")
    ledger = store.ledger
    settings = SMALL.but(users=5, rounds=2)
    assert ledger.evaluations() == [evaluation.release(settings)] * 2
    together = epsilon(ledger.releases(), 1e-5)
    spent = ledger.spent("record")
    assert spent and spent.epsilon == together == report["per_user"][0]["epsilon"]
    assert epsilon(ledger.trainings(), 1e-5) < together <= 8.0
    assert report["privacy"]["record"]["epsilon"] == together
    assert report["privacy"]["record"]["evaluation_epsilon"] == 4.0
    told = spent_after(settings, [float("inf")] * 2).record
    assert told and told.epsilon == pytest.approx(together, rel=1e-6)
    store.close()


def test_a_charge_names_the_answers_it_is_about(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "device.db")
    train, score, count = Release(2.0, 1.0, 1), Release(3.0, 1.0, 1), Release(10.0, 1.0, 1)
    charge = Charge("run", 1, 0, train, 0.1, "aa", evaluation=score, heldout="bb", count=count)
    store.ledger.charge(charge)
    assert store.ledger.releases() == [train, score, count]
    store.ledger.charge(replace(charge, round=2, heldout="cc"))
    store.ledger.charge(replace(charge, round=3, heldout="dd", evaluation=None))  # not about them
    query = "SELECT evaluation_data FROM releases WHERE guarantee = 'record' ORDER BY round"
    assert store._db.execute(query).fetchall() == [("bb",), ("cc",), ("",)]
    assert len(store.ledger.releases()) == 3 + 2 + 3
    store.close()


def test_nothing_is_added_where_no_evaluation_is_asked_for(
    run: Runner, people: Path, tmp_path: Path
) -> None:
    settings = SMALL.but(evaluation_epsilon=0.0)
    assert round_terms(settings, 10, "r", 1, 0, 8).dimension == 10
    assert round_terms(settings, 10, "r", 1, 0, 8, 2.0).clip == settings.user.clip
    sound = steps.SOUND
    assert on_device.coordinate(sound, settings, None, None, None, bytes).size == 0  # type: ignore[arg-type]
    report = run(people, "run", "--rounds", "2")
    assert report["evaluations"] == []
    plain = report["secure_aggregation"]["upload_bytes_per_client_round"]
    with_one = run(people, "on", "--rounds", "2", *ON)["secure_aggregation"]
    assert with_one["upload_bytes_per_client_round"] == plain + 3  # 24 bits
    assert not (tmp_path / "run/server/evaluations").exists()
    store = Store.open(tmp_path / "run/devices/00000.db")
    assert store.ledger.evaluations() == []
    store.close()


def test_a_device_derives_the_evaluation_from_the_settings_itself() -> None:
    dimension = adapter_plans(SMALL)[0].dimension
    terms = round_terms(SMALL, dimension, "r", 1, 0, 8)
    check_terms(terms, SMALL)
    for settings in (SMALL, SMALL.but(evaluation_epsilon=0.0)):
        for size in (dimension - 1, dimension, dimension + 1, dimension + 2):
            asked = replace(terms, dimension=size, training=settings.digest())
            if size == dimension + evaluation.coordinates(settings.evaluation):
                check_terms(asked, settings)
            else:
                with pytest.raises(ProtocolError, match="dimension"):
                    check_terms(asked, settings)


def test_an_evaluation_that_takes_all_of_epsilon_is_refused() -> None:
    with pytest.raises(InputError, match="leaves nothing"):
        Settings.of(evaluation_epsilon=8.0)
    Settings.of(evaluation_epsilon=8.0, dp=False)


def evaluated(version: int, round_: int, gain: float, std: float = 0.01, parent: int = 0) -> Any:
    return Evaluation(version, round_, gain, std, 0.0, 8, parent)


@pytest.mark.parametrize(
    ("gain", "lineage", "known", "worse_than"),
    [
        (0.3, (2, 1), [evaluated(1, 2, 0.3)], None),
        (-1.9, (2, 1), [evaluated(1, 2, 0.3)], 1),
        (-1.9, (1, 0), [], 0),
        (0.01, (1, 0), [], None),
        (-1.9, (2, 1), [], 0),  # the parent was never evaluated: the base
        (0.0, (3, 1), [evaluated(1, 2, 3.0), evaluated(1, 3, 0.1)], None),  # its last counts
    ],
)
def test_a_version_is_worse_only_by_more_than_chance(
    gain: float, lineage: tuple[int, int], known: list[Any], worse_than: int | None
) -> None:
    settings = SMALL.but(examples=64)
    terms = round_terms(settings, 10, "r", 4, 0, 8)
    found = judged(settings, terms, 8, gain, lineage, known)
    assert found.worse_than == worse_than


def test_the_rule_is_three_standard_deviations_of_the_difference() -> None:
    settings = SMALL.but(examples=64)
    terms, known = round_terms(settings, 10, "r", 4, 0, 8), [evaluated(1, 2, 0.5, 0.2)]
    limit = 0.5 - 3 * hypot(evaluation.mean_std(settings, terms, 8), 0.2)
    assert judged(settings, terms, 8, limit - 1e-9, (2, 1), known).worse_than == 1
    assert judged(settings, terms, 8, limit + 1e-9, (2, 1), known).worse_than is None
    fewer = judged(settings, terms, 6, limit - 1e-9, (2, 1), known)
    assert fewer.worse_than is None  # two were not there, and may have been the satisfied ones
    assert fewer.people_std == pytest.approx(2.0 * (0.25 / 6) ** 0.5)


GARBAGE = ("--evaluation-epsilon", "60", "--epsilon", "100", "--learning-rate", "5")


def test_a_poisoned_version_is_taken_back_and_a_good_one_is_not(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Round 2 publishes garbage; round 3 finds it and goes back; a simulation goes on by itself."""
    from server.round import aggregation

    real, calls = aggregation.apply, []

    def poisoned(*arguments: Any) -> Any:
        calls.append(1)
        vector, state = real(*arguments)
        if len(calls) == 2:
            vector = np.random.default_rng(0).normal(scale=50, size=vector.size)
        return vector.astype(np.float32), state

    monkeypatch.setattr(aggregation, "apply", poisoned)
    data = write_people(tmp_path / "many", 12)
    report = run(data, "run", *GARBAGE, "--rounds", "4")
    assert [entry["status"] for entry in report["rounds_log"]] == ["done", "done", "held", "done"]
    first, bad, again = report["evaluations"]
    assert (first["version"], first["worse_than"]) == (1, None)
    assert (bad["version"], bad["round"], bad["worse_than"]) == (2, 3, 1)
    assert (again["version"], again["round"], again["worse_than"]) == (1, 4, None)
    log = report["rounds_log"]
    assert log[2]["adapter_sha256"] == log[0]["adapter_sha256"]
    origin = json.loads((tmp_path / "run/server/adapters/0004.json").read_text())
    assert origin["parent_sha256"] == log[0]["adapter_sha256"]
    assert "held" in (tmp_path / "run/report.html").read_text()


def test_a_crash_between_the_note_and_the_round_counts_neither_twice(
    run: Runner, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from simulations.cli import main

    real, finished = Registry._finish, []

    def crash(self: Registry, entry: RoundEntry) -> None:
        if entry.round == 2:
            raise KeyboardInterrupt
        finished.append(entry.round)
        real(self, entry)

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "_finish", crash)
        run(people, "cut", *ON, "--rounds", "3", exit_code=130)
    place = tmp_path / "cut/server"
    assert (place / "evaluations/0002.json").exists()
    assert evaluations(place) == []  # the round did not happen
    assert main(["run", "--resume", "--out", str(tmp_path / "cut"), "--quiet"]) == 0
    report = json.loads((tmp_path / "cut/report.json").read_text())
    assert [entry["round"] for entry in report["rounds_log"]] == [1, 2, 3]
    # Four attempts, three evaluations: in the last every device had spent its own.
    assert [one["round"] for one in report["evaluations"]] == [2]
    assert report["privacy"]["record"]["epsilon"] <= 8.0
    store = Store.open(tmp_path / "cut/devices/00000.db")
    assert len(store.ledger.trainings()) == 4
    assert len(store.ledger.evaluations()) == 3
    store.close()


def shared(value: float) -> Shared:
    return Shared(PLAN, np.full(PLAN.dimension, value, dtype=np.float32))


def publish(registry: Registry, number: int, found: Evaluation | None = None) -> None:
    parent, state = registry.latest()
    following = shared(number / 10)
    entry = RoundEntry(number, "done", 8, 8, 0.1, following.digest())
    registry.publish(entry, following, state, parent.digest(), found)


def hold(registry: Registry, number: int) -> None:
    """Round `number` finds version 2 worse than version 1."""
    found = replace(evaluated(2, number, -1.5, parent=1), worse_than=1)
    registry.hold(RoundEntry(number, "held", 8, 8, 0.1, shared(0.1).digest()), found)


@pytest.fixture
def operators(tmp_path: Path) -> Path:
    """An operator's folder on hold after round 3."""
    place = create(tmp_path / "fed")
    text = place.settings_file.read_text().replace("\nrounds = 3\n", "\nrounds = 9\n")
    place.settings_file.write_text(text)
    registry = Registry(place.federation / "server", PLAN)
    registry.note_spent(Spending(None, None))
    publish(registry, 1)
    publish(registry, 2, evaluated(1, 2, 0.3))
    hold(registry, 3)
    return place.folder


def test_a_hold_says_why_and_what_to_do_wherever_an_operator_looks(
    operators: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--dir", str(operators))
    sentence = "On hold since round 3: version 2 is worse than version 1"
    assert operate(["adapters", *where]) == 0
    told = capsys.readouterr().out
    assert sentence in told
    assert "+0.300 ± 0.010" in told
    assert "-1.500 ± 0.010" in told
    assert "next round starts from version 1." in told
    assert operate(["status", *where]) == 0
    assert sentence in capsys.readouterr().out
    assert operate(["run", *where]) == 2
    refused = capsys.readouterr().err
    assert sentence in refused
    assert "run --resume" in refused
    assert operate(["adapters", "--json", *where]) == 0
    full = json.loads(capsys.readouterr().out)
    assert [one["evaluation"]["gain"] for one in full] == [0.3, -1.5]


def test_the_dashboard_and_prometheus_show_quality_and_the_hold(operators: Path) -> None:
    from server.deployment.place import existing

    situation = Observer(existing(operators), lambda: []).look()
    shown, figures = page(situation), metrics(situation).decode()
    assert "On hold since round 3." in shown
    assert "Quality" in shown
    assert "+0.300 ± 0.010" in shown
    assert 'privity_version_gain{version="2"} -1.5' in figures
    assert 'privity_version_gain_std{version="1"} 0.01' in figures
    assert "privity_on_hold 1.0" in figures
    assert 'privity_rounds_total{outcome="held"} 1.0' in figures


def test_a_hold_lasts_until_the_operator_ends_it(
    operators: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    federation = operators / "federation"
    place, registry = federation / "server", Registry(federation / "server", PLAN)
    found = on_hold(federation)
    assert found and (found.round, found.back_to) == (3, 1)
    assert registry.latest()[0].digest() == shared(0.1).digest()
    assert operate(["run", "--resume", "--no-wait", "--dir", str(operators)]) == 0
    assert "Rounds 4 to 9" in capsys.readouterr().out
    assert on_hold(federation) is None
    assert current(place) == 1
    with pytest.raises(InputError, match="not on hold"):
        resume(federation)
    publish(registry, 4, evaluated(1, 4, 0.29))
    assert current(place) == 4
    hold(registry, 5)  # a second one is one of its own
    assert on_hold(federation)
    roll_back(federation, registry, "0")
    assert on_hold(federation) is None
    assert current(place) == 0


def test_an_exported_version_says_what_was_found_of_it(operators: Path, tmp_path: Path) -> None:
    plan = adapter_plans(SMALL)[0]
    registry = Registry(tmp_path / "server", plan)
    start, state = registry.latest()
    entry = RoundEntry(1, "done", 8, 8, 0.1, start.digest())
    registry.publish(entry, start, state, "00" * 32)
    following = Shared(plan, start.vector + 1)
    second = RoundEntry(2, "done", 8, 8, 0.1, following.digest())
    registry.publish(second, following, RuleState.fresh(plan.dimension), start.digest(),
                     evaluated(1, 2, 0.25))  # fmt: skip
    for version, known in (("1", True), ("2", False)):
        export(tmp_path, registry, version, tmp_path / version)
        origin = json.loads((tmp_path / version / "provenance.json").read_text())
        assert ("evaluation" in origin) == known


def test_rounds_stop_at_a_hold_and_devices_get_what_was_gone_back_to(
    operators: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Round 5 finds its version worse; neither this process nor another makes a sixth."""
    import server.app
    from server.deployment.conductor import Conductor
    from server.registry.goal import Plan, rounds_done, write_plan

    federation, settings = operators / "federation", SMALL.but(rounds=9)
    registry, handed = Registry(federation / "server", PLAN), []

    def make(_: Any, number: int, prepared: Any) -> tuple[RoundEntry, Any]:
        assert prepared is None or number != 6  # what rode along with the held round is dropped
        if number == 5:
            hold(registry, number)
        else:
            publish(registry, number)
        return registry.rounds()[-1], "the next round's setup" if number < 9 else None

    monkeypatch.setattr(server.app, "run_round", make)
    monkeypatch.setattr(server.app, "wait_for_nodes", lambda *_: None)

    def hand_out(*_: Any) -> int:
        handed.append(current(registry._folder))
        return 0

    monkeypatch.setattr(server.app, "hand_out", hand_out)
    made = type("Made", (), {"settings": settings, "registry": registry})()
    write_plan(federation, Plan(9))

    started: list[Any] = []
    control = type("Control", (), {"start": lambda _, s: started.append(s) or 1})()
    conductor = Conductor(federation, control, lambda: settings, lambda _: None)
    server.app._rounds(made, None, federation)  # type: ignore[arg-type]
    conductor.tend()
    assert (rounds_done(federation), handed, started) == (3, [], [])  # it is on hold

    resume(federation)
    conductor.tend()
    assert len(started) == 1
    server.app._rounds(made, None, federation)  # type: ignore[arg-type]
    assert (rounds_done(federation), handed) == (5, [1])
    resume(federation)
    server.app._rounds(made, None, federation)  # type: ignore[arg-type]
    assert (rounds_done(federation), handed) == (9, [1, 9])


def test_watching_ends_at_a_hold(operators: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from server.commands.run import _watch

    assert _watch(operators / "federation", 2, 9) == 1
    told = capsys.readouterr().out
    assert "round 3: held, 8 of 8" in told
    assert "On hold since round 3" in told
    assert "rollback VERSION" in told
