"""Who the people of a built-in data set are. The data are made up, in the format of the wheel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up_people import write_conversations

from common.errors import InputError
from common.settings import from_mapping
from simulations import devices
from simulations.scenarios import chitchat

PEOPLE, ANSWERS = 60, 10


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    write_conversations(tmp_path, PEOPLE, ANSWERS)
    monkeypatch.setenv("PRIVITY_CACHE", str(tmp_path))
    chitchat._load.cache_clear()
    yield
    chitchat._load.cache_clear()


def _half() -> int:
    return sum(not chitchat._half(f"person {number}") for number in range(PEOPLE))


def test_everybody_has_something_to_learn_from_and_something_held_out(wheel: None) -> None:
    few = {"examples": 4, "seed": 3}
    settings = from_mapping({"users": _half() - 10} | few)
    chosen = devices.people(settings)
    assert len(chosen) == settings.rounds.users
    for user in chosen:
        train, heldout = devices.examples(settings, user)
        assert train
        assert heldout

    everyone = devices.people(from_mapping({"users": 0} | few))
    assert settings.rounds.users < len(everyone) < _half()  # somebody had nothing held out


def test_too_many_people_are_refused_with_how_many_there_are(wheel: None) -> None:
    settings = from_mapping({"users": _half(), "examples": 4, "seed": 3})
    there_are = len(devices.people(from_mapping({"users": 0, "examples": 4, "seed": 3})))
    with pytest.raises(InputError, match=f"more than the {there_are} people with 5 answers"):
        devices.people(settings)


def test_the_same_seed_chooses_the_same_people(wheel: None) -> None:
    settings = from_mapping({"users": 8, "examples": 8, "seed": 5})
    first = list(devices.people(settings))
    devices.people.cache_clear()
    assert list(devices.people(settings)) == first
    assert list(devices.people(from_mapping({"users": 8, "examples": 8, "seed": 6}))) != first
