"""A plan that cannot work is refused before anybody is asked or charged, in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import common.rounds.round_terms
from common.adapter.plan import AdapterPlan, Site
from common.errors import InputError, ProtocolError, RoundAbandonedError
from common.settings import Settings
from server.cli import main
from server.deployment.place import create
from server.registry.goal import read_plan
from server.registry.registry import Registry
from server.round.cohort import Cohort
from server.round.noise_plan import check_reachable
from server.round.setup import Federation, offer
from simulations import cli

PLAN = AdapterPlan("toy", (Site("layer", 3, 4),), 2, 2.0, 0, "ffa")
HOPELESS: list[tuple[dict[str, Any], str]] = [
    ({"users": 2}, "cohort of 2 is too small"),
    ({"users": 200, "user_epsilon": 0.001, "modulus_bits": 16}, "modulus"),
    ({"epsilon": 1e-9, "delta": 1e-15}, "keeps --epsilon 1e-09"),
]


@pytest.mark.parametrize(("values", "words"), HOPELESS)
def test_a_plan_that_cannot_work_is_refused_with_its_setting(
    values: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        check_reachable(Settings.of(**values), 10)


def test_what_no_device_would_answer_is_the_settings_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a σ beyond what can be drawn: devices refuse such terms as a breach of protocol."""

    def refused(_: Any) -> None:
        raise ProtocolError("Noise of 9e9 levels cannot be drawn.")

    monkeypatch.setattr(common.rounds.round_terms.RoundTerms, "validate", refused)
    with pytest.raises(InputError, match="No round can be made: Noise of 9e9"):
        check_reachable(Settings.of(user_epsilon=8.0), 10)


def test_noise_that_cannot_be_drawn_is_refused_before_anybody_is_charged(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """σ grows with the modulus: a round of it is made, or the run does not begin."""
    options = ["run", "--data", str(people), "--model", "tiny", "--examples", "8", "--rounds", "1"]
    options += ["--user-epsilon", "8", "--modulus-bits", "32", "--personal-epochs", "0"]
    code = cli.main([*options, "--quiet", "--out", str(tmp_path / "out")])
    assert code in (0, 2)
    if code == 2:
        assert "No device can draw noise of 6.87e+07 levels" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_run_refuses_before_it_asks_for_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = create(tmp_path / "ours")
    text = place.settings_file.read_text()
    for before, after in (("epsilon = 8.0", "epsilon = 1e-9"), ("delta = 1e-05", "delta = 1e-15")):
        assert f"\n{before}\n" in text
        text = text.replace(f"\n{before}\n", f"\n{after}\n")
    place.settings_file.write_text(text)
    capsys.readouterr()
    assert main(["run", "--dir", str(place.folder), "--no-wait"]) == 2
    said = capsys.readouterr().err
    assert "No amount of noise that is tried keeps" in said and said.count("\n") == 1
    assert read_plan(place.federation) is None


def test_a_cohort_of_which_no_sum_can_be_made_abandons_its_attempt_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise InputError("500 members with noise do not fit 16 bits.")

    monkeypatch.setattr("server.round.setup.round_terms", refused)
    key, registry = Ed25519PrivateKey.generate().public_key(), Registry(tmp_path, PLAN)
    federation = Federation(Settings(), registry, key, "run", list, lambda: 1, None)  # type: ignore[arg-type]
    with pytest.raises(RoundAbandonedError, match="do not fit 16 bits"):
        offer(federation, Cohort(1, 0, [1, 2, 3], lambda *_: False))


@pytest.mark.parametrize(
    ("changed", "now"), [("rounds = 3", "rounds = 30"), ("epsilon = 8.0", "epsilon = 4.0")]
)
def test_what_members_were_charged_under_cannot_be_changed_afterwards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: str, now: str
) -> None:
    """The ε that is stated of all rounds is reckoned by one plan."""
    place = create(tmp_path / "ours")
    Registry(place.federation / "server", PLAN).note_price(place.run())
    text = place.settings_file.read_text()
    assert f"\n{changed}\n" in text
    place.settings_file.write_text(text.replace(f"\n{changed}\n", f"\n{now}\n"))
    capsys.readouterr()
    assert main(["run", "--dir", str(place.folder), "--no-wait"]) == 2
    said = capsys.readouterr().err
    assert changed.split(" = ")[1] in said and "new federation" in said
    place.settings_file.write_text(text)
    assert main(["run", "--dir", str(place.folder), "--no-wait"]) == 0
