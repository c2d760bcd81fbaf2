"""Versions of the adapter: where each comes from, rolling back, taking one elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from common.adapter.plan import BOTH, AdapterPlan, Site
from common.adapter.weights import Shared, whole
from common.errors import InputError, PrivityError
from common.privacy.accountant import Release, calibrate, epsilon
from common.privacy.statements import record_level
from common.privacy.user_level import user_epsilon
from common.rounds.run_folder import run_seed
from common.settings import Settings
from server.cli import main
from server.deployment.place import create
from server.registry.goal import between_rounds, one_round, round_under_way, rounds_done
from server.registry.provenance import Guarantee, Spending
from server.registry.registry import (
    Registry,
    RoundEntry,
    RuleState,
    current,
    parent,
    provenances,
    rollbacks,
)
from server.registry.versions import export, find_version, roll_back
from server.round.spending import spent_after

PLAN = AdapterPlan("toy", (Site("layer", 3, 4),), 2, 2.0, 0, "ffa")
SPENT = Spending(Guarantee(1.25, 1e-5, 8.0), None)


def shared(value: float, plan: AdapterPlan = PLAN) -> Shared:
    return Shared(plan, np.full(plan.dimension, value, dtype=np.float32))


def publish(registry: Registry, number: int, value: float) -> None:
    """Round `number`, from whatever is the latest."""
    parent = registry.latest()[0]
    following = shared(value, registry.plan)
    ones = np.full(registry.plan.dimension, number, np.float32)
    entry = RoundEntry(number, "done", 6, 5, 0.1, following.digest())
    registry.publish(entry, following, RuleState(number, ones, ones), parent.digest())


def abandon(registry: Registry, number: int) -> None:
    digest = registry.latest()[0].digest()
    registry.abandon(RoundEntry(number, "abandoned", 6, 0, 0.1, digest))


@pytest.fixture
def federation(tmp_path: Path) -> Path:
    """Rounds 1 and 2 published, 3 abandoned."""
    registry = Registry(tmp_path / "server", PLAN)
    registry.note_spent(SPENT)
    publish(registry, 1, 0.1)
    publish(registry, 2, 0.2)
    abandon(registry, 3)
    return tmp_path


def registry_in(federation: Path) -> Registry:
    return Registry(federation / "server", PLAN)


def test_each_adapter_names_its_parent_its_round_and_what_it_cost(federation: Path) -> None:
    known = provenances(federation / "server")
    assert list(known) == [1, 2]
    first, second = known.values()
    assert first.parent_sha256 == Shared(PLAN, PLAN.initial(PLAN.sent)).digest()
    assert second.parent_sha256 == first.adapter_sha256 == shared(0.1).digest()
    assert (second.round, second.cohort, second.survivors, second.model) == (2, 6, 5, "toy")
    assert second.spent == SPENT
    assert second.published_at.endswith("Z")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"round": None, "more": 1},
        {"spent": {"record": {"epsilon": 1}, "user": None}},
        {"spent": []},
    ],
)
def test_a_provenance_of_another_form_is_refused(
    federation: Path, change: dict[str, object]
) -> None:
    file = federation / "server/adapters/0001.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(PrivityError, match="does not say"):
        provenances(federation / "server")


def test_rounds_start_from_the_version_rolled_back_to_until_one_publishes(
    federation: Path,
) -> None:
    registry, place = registry_in(federation), federation / "server"
    entry = roll_back(federation, registry, "1")
    assert (entry.after, entry.to, entry.adapter_sha256) == (3, 1, shared(0.1).digest())
    adapter, state = registry_in(federation).latest()
    assert adapter.digest() == shared(0.1).digest()
    assert (state.steps, state.first[0]) == (1, 1)  # the rule's state of then, too
    assert rounds_done(federation) == 3  # a rollback is no round
    abandon(registry, 4)
    assert current(place) == 1  # an abandoned round changes nothing
    publish(registry, 5, 0.5)
    assert current(place) == 5
    origin = provenances(place)[5]
    assert origin.parent_sha256 == shared(0.1).digest()
    assert parent(origin, registry.rounds()) == 1
    assert [one.round for one in registry.rounds()] == [1, 2, 3, 4, 5]
    assert {file.name for file in (place / "adapters").glob("*.npz")} == {
        "0001.npz", "0002.npz", "0005.npz",
    }  # fmt: skip


def test_a_rollback_can_be_taken_back_and_the_start_is_a_version(federation: Path) -> None:
    registry = registry_in(federation)
    for name in ("1", "2", "0"):
        roll_back(federation, registry, name)
    assert [one.to for one in rollbacks(federation / "server")] == [1, 2, 0]
    adapter, state = registry.latest()
    assert np.array_equal(adapter.vector, PLAN.initial(PLAN.sent))
    assert state.steps == 0


def test_a_crash_leaves_the_rollback_undone_or_done(
    federation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, place = registry_in(federation), federation / "server"

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            roll_back(federation, registry, "1")
    assert (current(place), rollbacks(place)) == (2, [])
    with monkeypatch.context() as patched:
        patched.setattr("common.system.files.sync_folder", crash)  # after the rename
        with pytest.raises(KeyboardInterrupt):
            roll_back(federation, registry, "1")
    assert current(place) == 1
    assert not round_under_way(federation)  # and nothing stays locked


def test_a_version_that_was_changed_is_not_rolled_back_to(federation: Path) -> None:
    folder = federation / "server/adapters"
    (folder / "0002.npz").replace(folder / "0001.npz")
    with pytest.raises(PrivityError, match="round 1 is not the one"):
        roll_back(federation, registry_in(federation), "1")
    assert rollbacks(federation / "server") == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("9", "no round 9"),
        ("3", "abandoned"),
        ("2", "already"),
        ("last", "no version"),
        ("-1", "no version"),
        ("abcde", "no version"),
        ("abcdef0", "begins with abcdef0"),
    ],
)
def test_what_cannot_be_rolled_back_to(federation: Path, name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        roll_back(federation, registry_in(federation), name)
    assert rollbacks(federation / "server") == []


def test_versions_are_found_by_digest_unless_two_are_meant(federation: Path) -> None:
    place = federation / "server"
    assert find_version(place, shared(0.1).digest()[:6].upper()) == 1
    assert find_version(place, shared(0.2).digest()) == 2
    publish(registry_in(federation), 4, 0.1)
    with pytest.raises(InputError, match="rounds 1, 4"):
        find_version(place, shared(0.1).digest())


def test_a_rollback_waits_for_the_round_and_comes_before_the_next(federation: Path) -> None:
    """The maker goes from round to round without a pause; the operator is served in between."""
    events: list[str] = []
    making, waiting = threading.Event(), threading.Event()

    def maker() -> None:
        with one_round(federation):
            making.set()
            assert waiting.wait(10)
            turn = (federation / "turn.lock").open("a+")
            while not _taken(turn):  # the operator stands in line
                pass
            events.append("first round")
        with one_round(federation):
            events.append("second round")

    thread = threading.Thread(target=maker)
    thread.start()
    assert making.wait(10)
    assert round_under_way(federation)
    with between_rounds(federation, waiting.set):
        events.append("operator")
    thread.join(10)
    assert events == ["first round", "operator", "second round"]


def _taken(lock) -> bool:  # type: ignore[no-untyped-def]
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(lock, fcntl.LOCK_UN)
    return False


def test_a_round_whose_maker_was_killed_holds_nobody_up(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom server.registry.goal import one_round\n"
        "with one_round(Path(sys.argv[1])):\n print('making', flush=True)\n time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "making\n"
        assert round_under_way(tmp_path)
        process.kill()
    with between_rounds(tmp_path):
        pass
    assert not round_under_way(tmp_path)


def test_what_was_spent_is_what_a_device_with_every_round_was_charged() -> None:
    """Oracles: the device's own plan, and dp-accounting's composition."""
    settings = Settings.of(users=8, rounds=4, epsilon=4.0, user_epsilon=6.0)
    planned = [Release(1.0, 1.0, 4), Release(5.0, 1.0, 4)]  # training and count
    sigma = calibrate((), planned, target=4.0, delta=1e-5)
    after_two = spent_after(settings, [0.01, 0.01])
    assert after_two.record and after_two.user
    assert after_two.record.epsilon == pytest.approx(
        epsilon([Release(sigma, 1.0, 2), Release(5 * sigma, 1.0, 2)], 1e-5)
    )
    assert 0 < after_two.record.epsilon < 4
    assert after_two.user.epsilon == pytest.approx(user_epsilon([0.02], 1e-5))
    after_all = spent_after(settings, [0.01] * 9)  # repeated attempts: devices add noise
    assert after_all.record and after_all.record.epsilon == after_all.record.budget == 4.0
    nothing = spent_after(settings, [])
    assert nothing.record and nothing.user
    assert nothing.record.epsilon == nothing.user.epsilon == 0


def test_what_one_message_costs_is_stated_beside() -> None:
    """Two examples of everything: the Gaussian with twice the μ (2.15, 9.08 and 19.12 at 1e-5)."""
    for epsilon_, message in ((1.0, 2.155), (4.0, 9.085), (8.0, 19.121)):
        settings = Settings.of(users=8, rounds=3, epsilon=epsilon_)
        for attempts in (3, 7):
            found = spent_after(settings, [0.0] * attempts).record
            assert found
            assert found.epsilon_message == pytest.approx(message, abs=2e-3)
            assert f"({found.epsilon_message:.2f} for one message" in record_level(asdict(found))
        first = spent_after(settings, [0.0]).record
        assert first
        assert first.epsilon < first.epsilon_message < message  # type: ignore[operator]
    older = Spending.from_dict(
        {"record": {"epsilon": 1.0, "delta": 1e-5, "budget": 8.0}, "user": None}
    )
    assert older.record
    assert older.record.epsilon_message is None
    assert "message" not in record_level(asdict(older.record))


def test_what_is_not_promised_is_not_stated() -> None:
    neither = spent_after(Settings.of(users=8, dp=False), [float("inf")])
    assert neither == Spending(None, None)


TINY = Settings.of(model="tiny", users=5, modules="q_proj,v_proj", rank=2, layers=1)


def tiny_registry(folder: Path, settings: Settings = TINY) -> Registry:
    from common.learning.backbone import adapter_plans

    registry = Registry(folder / "server", adapter_plans(settings)[0])
    chance = np.random.default_rng(0)
    plan = registry.plan
    following = Shared(plan, chance.normal(scale=0.3, size=plan.dimension).astype(np.float32))
    entry = RoundEntry(1, "done", 5, 5, 0.1, following.digest())
    registry.publish(entry, following, RuleState.fresh(plan.dimension), "00" * 32)
    return registry


def test_plain_peft_loads_what_was_exported_and_gives_our_logits(tmp_path: Path) -> None:
    import torch
    from peft import PeftModel

    from common.adapter import lora
    from common.learning.backbone import backbone_for
    from common.models import load_base

    registry = tiny_registry(tmp_path)
    target = tmp_path / "exported"
    assert export(tmp_path, registry, "latest", target) == 1
    backbone, adapter = backbone_for(TINY), registry.latest()[0]
    lora.write(backbone.model, lora.SHARED, adapter.plan, BOTH, whole(adapter))
    ids = torch.arange(3, 40)[None]
    with torch.no_grad(), lora.active(backbone.model, lora.SHARED):
        ours = backbone.model(input_ids=ids).logits
    plain = PeftModel.from_pretrained(load_base("tiny"), str(target)).eval()
    with torch.no_grad():
        theirs = plain(input_ids=ids).logits
        base = load_base("tiny")(input_ids=ids).logits
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert not torch.allclose(ours, base, atol=1e-2)
    told = json.loads((target / "provenance.json").read_text())
    assert told["adapter_sha256"] == adapter.digest()
    assert sorted(file.name for file in target.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "provenance.json",
    ]  # fmt: skip


def test_an_export_overwrites_nothing_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    registry, target = tiny_registry(tmp_path), tmp_path / "out"
    target.mkdir()
    (target / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="exists already"):
        export(tmp_path, registry, "1", target)
    with pytest.raises(InputError, match="exists already"):
        export(tmp_path, registry, "1", target / "mine.txt")
    assert [file.name for file in target.iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="start"):
        export(tmp_path, registry, "0", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_can_do_nothing_alone_is_not_exported(tmp_path: Path) -> None:
    registry = tiny_registry(tmp_path, TINY.but(sharing="fedsa"))
    with pytest.raises(InputError, match="keeps its own B"):
        export(tmp_path, registry, "1", tmp_path / "out")


@pytest.fixture
def operators(tmp_path: Path) -> Path:
    """An operator's folder of a tiny model, after one round of a run with its own seed."""
    place = create(tmp_path / "fed")
    text = place.settings_file.read_text()
    for old, new in (
        ('model = "smollm2-135m"', 'model = "tiny"'), ('modules = "v_proj"', 'modules = "q_proj"'),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    place.settings_file.write_text(text)
    from common.learning.backbone import adapter_plans

    settings = place.settings().run.but(seed=run_seed(place.federation))
    registry = Registry(place.federation / "server", adapter_plans(settings)[0])
    registry.note_spent(SPENT)
    publish(registry, 1, 0.1)
    return place.folder


def told(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.err.count("\n") == (code != 0)
    return captured.err if code else captured.out


def test_the_commands(operators: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--dir", str(operators))
    listed = told(capsys, 0, "adapters", *where)
    assert "≤ 1.25" in listed
    assert "5 of 6" in listed
    assert "starts from version 1." in listed
    assert json.loads(told(capsys, 0, "adapters", "--json", *where))[0]["cohort"] == 6
    done = told(capsys, 0, "rollback", "0", *where)
    assert "From round 2 on" in done
    listed = told(capsys, 0, "adapters", *where)
    assert "rolled back to version 0" in listed
    assert "version 0, the start" in listed
    assert "round 1" in told(capsys, 0, "export", "1", str(operators / "e"), *where)
    for words, arguments in (
        ("no round 7", ("rollback", "7", *where)),
        ("already", ("rollback", "0", *where)),
        ("exists already", ("export", "1", str(operators / "e"), *where)),
        ("no version", ("export", "nonsense", str(operators / "f"), *where)),
        ("not an operator's folder", ("rollback", "1", "--dir", str(operators / "none"))),
    ):
        assert words in told(capsys, 2, *arguments)


def test_settings_that_no_longer_fit_are_named(
    operators: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = operators / "privity.toml"
    file.write_text(file.read_text().replace("\nrank = 1\n", "\nrank = 2\n"))
    arguments = ("export", "1", str(operators / "e"), "--dir", str(operators))
    assert "the settings give" in told(capsys, 2, *arguments)
