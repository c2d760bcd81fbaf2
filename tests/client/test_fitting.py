"""Fitting the personal adapter to a long history: chosen by its newest part, resumed, undone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.cli import main
from client.learning import adapters, fitting
from client.learning.fitting import LEAST, MOST_PASSES, Fit, apart, resume, saved
from client.learning.history import keep_before
from client.learning.personal import TrainResult, Unfinished, train
from client.vault.unlocking import Passphrase
from client.vault.vault import Vault
from common.adapter.weights import Personal
from common.records.records import Message, Record
from common.settings import Settings
from simulations.devices import SeededRandomness

SETTINGS = Settings.of(model="tiny", modules="q_proj,v_proj", layers=0, personal_rank=4)
WORDS = "correct horse battery"


def history(answers: int, said: str = "tea, please") -> list[Record]:
    """Somebody who always answers the same, a minute after the other."""
    chance = np.random.default_rng(0)
    found: list[Record] = []
    for number in range(answers):
        noise = "".join(chr(97 + c) for c in chance.integers(0, 26, 10))
        for author, words in (("other", f"q {noise}"), ("me", f"{said} {noise[:2]}")):
            at = f"2026-01-01T{number // 60:02d}:{number % 60:02d}:{author == 'me':02d}+00:00"
            found.append(Message(text=words, author=author, conversation="c", at=at))
    return found


def fitted(records: list[Record], unfinished: Unfinished | None = None) -> TrainResult:
    random = SeededRandomness(0, 0).stream("personal")
    more = {} if unfinished is None else {"unfinished": unfinished}
    return train(records, None, SETTINGS, key=bytes(32), random=random, **more)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "UNIT", 16)


def test_everything_is_learnt_from_and_the_newest_choose_how() -> None:
    records = history(90)
    result = fitted(records)
    assert result.train + result.heldout == 90  # and not a federation's 48 `examples`
    assert result.validation == apart(result.train) == round(0.15 * result.train)
    assert result.kept and result.after_loss < result.before_loss
    assert result.rate / SETTINGS.personal.rate in (pytest.approx(1 / 3), 1.0, 3.0)
    assert 0 < result.passes <= MOST_PASSES


def test_few_examples_are_all_learnt_from_in_the_settings_own_way() -> None:
    result = fitted(history(LEAST - 5))
    assert (result.validation, result.rate, result.passes) == (0, SETTINGS.personal.rate, 1.0)
    assert apart(LEAST - 1) == 0 < apart(LEAST)


def test_an_interrupted_fit_goes_on_to_the_same_adapter() -> None:
    records, states = history(90), list[tuple[str, bytes]]()
    whole = fitted(records, Unfinished(save=lambda *state: states.append(state)))
    assert len(states) > 5 and whole.personal is not None
    for name, state in states[:: max(1, len(states) // 4)]:
        asked: list[str] = []

        def load(wanted: str, state: bytes = state, asked: list[str] = asked) -> bytes:
            asked.append(wanted)
            return state

        again = fitted(records, Unfinished(load=load))
        assert asked == [name] and again.personal is not None
        assert np.array_equal(again.personal.vector, whole.personal.vector)
        assert (again.rate, again.passes, again.tokens) == (whole.rate, whole.passes, whole.tokens)


def test_a_fit_of_other_records_is_another() -> None:
    names: list[str] = []
    for records in (history(60), history(61), history(60, "coffee")):
        fitted(records, Unfinished(save=lambda name, _: names.append(name)))
    assert len(set(names)) == 3


def test_a_state_is_read_as_it_was_written() -> None:
    arrays = [np.arange(n, dtype=np.float32) for n in (4, 4, 4, 4)]
    one = Fit(0.25, *arrays, steps=3, seen=16, tokens=99, best_seen=8, looks=[2.5, 2.25])
    seed, (found, fresh) = resume(saved(b"\x01\x02", [one, Fit(1.0, arrays[0])]))
    assert seed == b"\x01\x02" and fresh.best_vector.size == 0
    assert (found.rate, found.steps, found.seen, found.tokens, found.best_seen) == (
        0.25,
        3,
        16,
        99,
        8,
    )
    assert found.looks == [2.5, 2.25] and np.array_equal(found.second, arrays[2])


def test_it_ends_when_the_validation_examples_get_no_better() -> None:
    fit = Fit(1.0, np.empty(0, np.float32))
    for looks, spent in (([3.0], False), ([3.0, 2.0, 2.1], False), ([3.0, 2.0, 2.1, 2.0], True)):
        fit.looks = looks
        assert fit.spent is spent


def test_a_person_looks_back_and_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret, home = tmp_path / "secret", tmp_path / "home"
    secret.touch(0o600)
    secret.write_text(WORDS + "\n")
    monkeypatch.setenv("PRIVITY_PASSPHRASE_FILE", str(secret))
    monkeypatch.setenv("PRIVITY_HOME", str(home))

    def said(*arguments: str) -> str:
        assert main(list(arguments)) == 0
        return capsys.readouterr().out

    def personal() -> list[tuple[str, bytes | None]]:
        with Vault.open(home, Passphrase(lambda _: WORDS)) as vault:
            return [(key, vault.store.get(key)) for key in vault.store.keys("adapter/personal/")]

    said("init")
    assert said("train", "--history") == "Nothing was learnt yet.\n"
    assert main(["train", "--rollback"]) == 2
    capsys.readouterr()
    with Vault.open(home, Passphrase(lambda _: WORDS)) as vault:
        vault.records.add(history(60), "a file")
    assert "chose how: learning rate" in said("train", "--model", "tiny")
    first = personal()
    with Vault.open(home, Passphrase(lambda _: WORDS)) as vault:  # another one was kept
        assert vault.store.get("train/unfinished") is None
        have = adapters.load(vault.store)
        assert have.personal is not None
        keep_before(vault.store, have.settings)
        other = Personal(have.personal.plan, have.personal.vector + 1)
        adapters.keep_personal(vault.store, have.settings, other)
    second = personal()
    assert first != second
    assert "in use again" in said("train", "--rollback") and personal() == first
    assert "in use again" in said("train", "--rollback") and personal() == second
    assert said("train", "--history").count("tiny") == 1
    assert main(["train", "--history", "--rollback"]) == 2
