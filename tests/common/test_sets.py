"""Which examples are learnt from, held out, and in a release: what one more or less changes.

On random archives: messages with and without times, marked and unmarked, empty and repeated ones.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dp_accounting.dp_event import GaussianDpEvent
from dp_accounting.pld import PLDAccountant
from hypothesis import given, target
from hypothesis import strategies as st

from client.federation import examples as on_device
from client.federation.device import Device
from client.federation.examples import for_release, sets_key
from client.vault.store import Store
from common.privacy import evaluation
from common.privacy.accountant import Release
from common.privacy.releases import planned_sigma, updates
from common.records.records import Record, record_of
from common.settings import Settings
from common.tasks.chat import Turn, turns
from common.tasks.sets import chosen, divide, expected_held_out, window, within
from server.round.spending import spent_after

KEY = b"a key of thirty-two bytes, yes.."
TIMES = (None, None, *(f"2026-01-0{day}T00:00:00+00:00" for day in range(1, 5)))
messages = st.builds(
    lambda text, author, conversation, at, split: record_of(
        "message", {"text": text, "author": author, "conversation": conversation}, at, split
    ),
    st.sampled_from(("a", "b", "c", " d ", "e", "", " ")),
    st.sampled_from(("me", "other", "assistant")),
    st.sampled_from("xy"),
    st.sampled_from(TIMES),
    st.sampled_from((None, None, None, "train", "heldout")),
)
archives = st.lists(messages, min_size=1, max_size=40)
answers = st.lists(
    st.builds(
        Turn,
        st.sampled_from("abcdefgh"),
        st.text(max_size=2),
        st.none(),
        st.sampled_from((None, None, "train", "heldout")),
    ),
    min_size=1,
    max_size=40,
)


def edits(before: list[Turn], after: list[Turn]) -> tuple[int, int]:
    """How many examples went, and how many came."""
    old, new = Counter(before), Counter(after)
    return (old - new).total(), (new - old).total()


@given(archives, st.data())
def test_one_message_less_takes_at_most_one_example_and_brings_at_most_one(
    archive: list[Record], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(archive) - 1))
    found, fewer = turns(archive), turns(archive[:place] + archive[place + 1 :])
    went, came = edits(found, fewer)
    target(went + came)
    assert went <= 1
    assert came <= 1


@given(answers, st.data(), st.floats(0, 1))
def test_one_example_less_changes_every_set_by_itself_alone(
    held: list[Turn], data: st.DataObject, share: float
) -> None:
    place = data.draw(st.integers(0, len(held) - 1))
    gone = held[place]
    rest = held[:place] + held[place + 1 :]
    for all_of_it, without in zip(divide(held, KEY), divide(rest, KEY), strict=True):
        for before, after in (
            (all_of_it, without),
            (within(all_of_it, KEY, share), within(without, KEY, share)),
        ):
            went, came = edits(before, after)
            assert came == 0
            assert went == (gone in before)
            if went:
                before = list(before)
                assert any(before[:i] + before[i + 1 :] == after for i in range(len(before)))


def _device(held: list[Turn]) -> Device:
    train, heldout = divide(held, KEY)
    return Device(1, train, heldout, STORE, None)  # type: ignore[arg-type]


STORE = Store(sqlite3.connect(":memory:", isolation_level=None), "a store in memory")
STORE.put(on_device.KEY, KEY)
SETTINGS = Settings.of(model="tiny", examples=4, rounds=3, evaluation_epsilon=2.0)


@given(archives, st.data(), st.floats(-5, 60))
def test_what_one_example_and_one_message_move_is_what_is_charged(
    archive: list[Record],
    data: st.DataObject,
    counted: float,
) -> None:
    """For every noisy count: a sum of vectors of norm 1, each the opposite of another's.

    What moves the count, the sum and the figure, in units of their noise, squared and added up, is
    the μ² of the Gaussian that two such archives are told apart by: at most what is charged for one
    example, and for a message at most four times that.
    """
    place = data.draw(st.integers(0, len(archive) - 1))
    found = turns(archive)
    parted = turns(archive[:place] + archive[place + 1 :])
    sigma, scored = planned_sigma(SETTINGS), evaluation.release(SETTINGS)
    charged = _mass([*updates(SETTINGS.record, SETTINGS.training, sigma, 1), scored])

    def moved(before: list[Turn], after: list[Turn]) -> float:
        both = [_released(held, counted, sigma) for held in (before, after)]
        (sums, figures), others = both
        total = ((len(before) - len(after)) / (5 * sigma)) ** 2
        total += float(np.sum((sums - others[0]) ** 2)) / sigma**2
        return total + float(np.sum((figures - others[1]) ** 2)) / scored.noise_multiplier**2

    if found:
        index = data.draw(st.integers(0, len(found) - 1))
        assert moved(found, found[:index] + found[index + 1 :]) <= charged * (1 + 1e-9)
    of_message = moved(found, parted)
    target(of_message / charged)
    assert of_message <= 4 * charged * (1 + 1e-9)


def _mass(charged: list[Release]) -> float:
    return sum(one.steps / one.noise_multiplier**2 for one in charged)


def _released(held: list[Turn], counted: float, sigma: float) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """The sums over the training and the held-out examples of a release, by the device's code."""
    device = _device(held)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_device, "gaussian", lambda *_: [counted - len(held)])
        found = for_release(device, SETTINGS.rounds, Release(5 * sigma, 1.0, 1), os.urandom)
    train, heldout = (
        sum((_extreme(turn) for turn in one), np.zeros(2)) for one in (found.train, found.heldout)
    )
    return train, heldout


def _extreme(turn: Turn) -> np.ndarray:  # type: ignore[type-arg]
    """A vector of norm 1; what follows one message is the opposite of what follows another."""
    return np.array([1.0 if turn.prompt < "c" else -1.0, 0.0])


def test_the_share_held_out_and_the_size_of_a_window_are_as_said() -> None:
    held = [Turn(f"message {i}", "yes") for i in range(5000)]
    train, heldout = divide(held, KEY)
    assert len(train) + len(heldout) == 5000
    assert abs(len(heldout) - 1000) < 4 * (5000 * 0.2 * 0.8) ** 0.5
    share = window(48, 5000)
    assert abs(len(within(train, KEY, share)) - 48) < 4 * 48**0.5
    assert abs(len(within(heldout, KEY, share)) - 12) < 4 * 12**0.5
    assert window(48, 60) == window(48, 3) == window(48, 0) == window(48, -7.5) == 1
    other = divide(held, os.urandom(32))[1]
    assert 100 < len(set(other) & set(heldout)) < 300  # another device, other places


def test_a_marked_example_goes_where_it_says_and_moves_no_other() -> None:
    held = [Turn(f"message {i}", "yes") for i in range(50)]
    before = divide(held, KEY)
    for index, mark in ((0, "train"), (1, "heldout"), (2, "train"), (3, "heldout")):
        marked = [*held[:index], replace(held[index], split=mark), *held[index + 1 :]]
        train, heldout = divide(marked, KEY)
        assert marked[index] in (heldout if mark == "heldout" else train)
        for side, old in zip((train, heldout), before, strict=True):
            assert [t for t in side if not t.split] == [t for t in old if t != held[index]]


def test_equal_answers_go_together() -> None:
    """Otherwise the held-out ones would be known from training."""
    again = [Turn("hi", "hello", f"2026-01-{day:02d}") for day in range(1, 30)]
    assert sorted(map(len, divide(again, KEY))) == [0, 29]


def test_what_stays_here_has_exactly_so_many_and_is_what_windows_begin_with() -> None:
    held = [Turn(f"message {i}", "yes") for i in range(400)]
    train, heldout = chosen(held, KEY, 48)
    assert (len(train), len(heldout)) == (48, 12) == (48, expected_held_out(48))
    all_train, all_heldout = divide(held, KEY)
    assert set(train) <= set(all_train)
    assert set(heldout) <= set(all_heldout)
    window_now = within(all_train, KEY, window(48, 400))
    assert len(set(train) & set(window_now)) == min(48, len(window_now))
    few = chosen(held[:20], KEY, 48)
    assert few == divide(held[:20], KEY)


def test_the_key_is_made_once_and_kept(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "one.db")
    key = sets_key(store)
    assert len(key) == 32
    assert sets_key(store) == key
    store.close()
    again = Store.open(tmp_path / "one.db")
    assert sets_key(again) == key
    other = Store.open(tmp_path / "other.db")
    assert sets_key(other) != key
    again.close()
    other.close()


@pytest.mark.parametrize("place", [0, 30, 69])
def test_leaving_one_of_seventy_out_lets_no_other_slide_in(place: int) -> None:
    """With a window of the latest 60 it did: two edits, for an ε of one."""
    held = [
        Turn(f"message {i}", "yes", f"2026-01-01T00:{i // 60:02d}:{i % 60:02d}") for i in range(70)
    ]
    settings = SETTINGS.but(examples=48)
    sets = []
    for kept in (held, held[:place] + held[place + 1 :]):
        device = _device(kept)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(on_device, "gaussian", lambda *_, kept=kept: [70 - len(kept)])
            sets.append(for_release(device, settings.rounds, Release(5.0, 1.0, 1), os.urandom))
    for side in ("train", "heldout"):
        went, came = edits(*(list(getattr(one, side)) for one in sets))
        assert came == 0
        assert went <= 1


def test_the_epsilon_shown_is_that_of_the_worst_pairs_of_archives() -> None:
    """Three rounds of the exact Gaussians that tell two archives apart, by Google's accountant."""
    settings = SETTINGS.but(evaluation_epsilon=0.0)
    shown = spent_after(settings, [0.0] * 3).record
    assert shown
    assert shown.epsilon_message

    def said(author: str, text: str) -> Record:
        values = {"author": author, "text": text, "conversation": "c"}
        return record_of("message", values, None, "train")

    def between(before: list[Record], after: list[Record]) -> float:
        """The ε of what the device's code makes of them."""
        sigma = planned_sigma(settings)
        held = turns(before), turns(after)
        sums = [_released(turns_, 3.0, sigma)[0] for turns_ in held]
        moved = float(np.sum((sums[0] - sums[1]) ** 2)) / sigma**2
        moved += ((len(held[0]) - len(held[1])) / (5 * sigma)) ** 2
        gaussian = GaussianDpEvent(moved**-0.5)
        return float(PLDAccountant().compose(gaussian, 3).get_epsilon(settings.record.delta))

    answered = [said("other", "a"), said("me", "yes")]
    of_example = between(answered, answered[:1])
    assert 0.99 * shown.epsilon < of_example < 1.001 * shown.epsilon
    interrupted = [said("other", "a"), said("other", "z"), said("me", "yes")]
    of_message = between(interrupted, answered)
    assert 2 * of_example < of_message < 1.001 * shown.epsilon_message
    assert of_message > 0.95 * shown.epsilon_message
