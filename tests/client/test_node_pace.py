"""How often a device looks for messages: soon after one, seldom when nothing comes or all ask."""

from __future__ import annotations

import pytest

from client.federation.node import pause_s

QUICK_S = 0.01


def test_a_device_that_was_just_asked_looks_again_at_once() -> None:
    assert pause_s(0.0, QUICK_S) == pytest.approx(0.1)


@pytest.mark.parametrize("quiet_s", [1.0, 10.0, 30.0, 100.0, 600.0])
def test_an_answer_waits_for_a_share_of_the_time_it_took(quiet_s: float) -> None:
    """So that pauses add little to a round, however long its training."""
    assert pause_s(quiet_s, QUICK_S) <= max(0.1, quiet_s / 6)
    assert pause_s(quiet_s, QUICK_S) <= max(3.0, quiet_s / 10)


def test_an_idle_device_asks_four_times_a_minute() -> None:
    assert pause_s(86_400.0, QUICK_S) == 15.0


def test_a_slow_federation_is_asked_less_often() -> None:
    assert pause_s(0.0, 0.5) == pytest.approx(5.0)
    assert pause_s(0.0, 30.0) == 15.0
