"""The device's policy: what it declines and why, how it is written, what the machine tells."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.federation import policy as policies
from client.federation import surroundings as machine
from client.federation.policy import Asked, Policy, SoFar, reasons_to_decline, unknowns
from client.federation.surroundings import Surroundings
from common.errors import InputError
from common.models import DEFAULT_MODEL
from common.settings import MIN_COHORT

NOON = Surroundings(12 * 60, idle=True, charging=True, unmetered=True)
MODEST = Asked(10, 1.0, math.inf, 1000, DEFAULT_MODEL, 1e-5, 1e-5)
FRESH = SoFar()


def test_the_defaults_take_part_in_a_modest_round_and_agree_with_the_rest() -> None:
    assert reasons_to_decline(Policy(), MODEST, NOON, FRESH) == []
    assert reasons_to_decline(Policy(), None, NOON, FRESH) == []
    assert policies.LEAST_COHORT == MIN_COHORT
    assert Policy().models == (DEFAULT_MODEL,)
    assert Policy().least_cohort >= MIN_COHORT


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"cohort": 5}, ["5 devices only", "fewer than 6"]),
        ({"record_epsilon": 8.1}, ["8.1", "over 8"]),
        ({"record_epsilon": math.inf}, ["infinity", "over 8"]),
        ({"record_epsilon": math.nan}, ["over 8"]),
        ({"record_delta": 0.1}, ["δ = 0.1", "over 1e-05"]),
        ({"upload_bytes": 64 * 2**20 + 1}, ["67,108,865 bytes", "more than 67,108,864"]),
        ({"model": "somebody/elses"}, ["'somebody/elses'", "not one of yours"]),
    ],
)
def test_what_the_default_policy_declines(asked: dict[str, Any], words: list[str]) -> None:
    reasons = reasons_to_decline(Policy(), dataclasses.replace(MODEST, **asked), NOON, FRESH)
    assert reasons
    assert all(word in " ".join(reasons) for word in words)


def test_each_reason_is_given_once_and_all_of_them() -> None:
    asked = Asked(3, 20.0, 30.0, 10**9, "other", 1e-3, 1e-3)
    rules = dataclasses.replace(Policy(), hours="22:00-07:00", only_idle=True, user_epsilon=4.0)
    dark = Surroundings(12 * 60, idle=False, charging=False, unmetered=False)
    reasons = reasons_to_decline(rules, asked, dark, FRESH)
    assert len(reasons) == len(set(reasons)) == 4 + 8
    assert all(reason.endswith(".") and "\n" not in reason for reason in reasons)


def test_one_round_may_not_add_more_than_its_own_limit() -> None:
    rules = dataclasses.replace(Policy(), record_epsilon_round=1.0)
    spent = SoFar(record_epsilon=3.0)
    asked = dataclasses.replace(MODEST, record_epsilon=4.0)
    assert reasons_to_decline(rules, asked, NOON, spent) == []
    asked = dataclasses.replace(MODEST, record_epsilon=4.1)
    (reason,) = reasons_to_decline(rules, asked, NOON, spent)
    assert "add 1.1" in reason


def test_a_limit_is_reached_and_not_passed_by_rounding() -> None:
    asked = dataclasses.replace(MODEST, record_epsilon=8.0 * (1 + 1e-12))
    assert reasons_to_decline(Policy(), asked, NOON, FRESH) == []


def test_the_users_own_limit() -> None:
    rules = dataclasses.replace(Policy(), user_epsilon=2.0)
    (reason,) = reasons_to_decline(rules, MODEST, NOON, SoFar(0.0, 1.5))
    assert "from 1.5 to infinity, over 2" in reason
    assert not reasons_to_decline(rules, dataclasses.replace(MODEST, user_epsilon=2), NOON, FRESH)


def test_no_limit_lets_even_infinity_pass() -> None:
    none = dataclasses.replace(Policy(), record_epsilon=math.inf, record_epsilon_round=math.inf)
    asked = dataclasses.replace(MODEST, record_epsilon=math.inf)
    asked = dataclasses.replace(asked, record_delta=0.1, user_delta=0.1)
    assert reasons_to_decline(none, asked, NOON, SoFar(math.inf, math.inf)) == []


def test_a_spent_budget_is_told_before_any_round_asks() -> None:
    (reason,) = reasons_to_decline(Policy(), None, NOON, SoFar(8.0, math.inf))
    assert "has reached 8" in reason


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("22:00-07:00", ["22:00", "23:59", "00:00", "06:59"], ["07:00", "12:00", "21:59"]),
        ("09:30-17:00", ["09:30", "16:59"], ["09:29", "17:00", "00:00"]),
        ("always", ["00:00", "23:59"], []),
        ("05:00-05:00", ["00:00", "05:00", "23:59"], []),
    ],
)
def test_hours(hours: str, inside: list[str], outside: list[str]) -> None:
    rules = dataclasses.replace(Policy(), hours=hours)
    for clock in inside + outside:
        at = dataclasses.replace(NOON, minute=60 * int(clock[:2]) + int(clock[3:]))
        reasons = reasons_to_decline(rules, MODEST, at, FRESH)
        assert bool(reasons) is (clock in outside)
        assert not reasons or f"It is {clock}, outside {hours}." == reasons[0]


@pytest.mark.parametrize("name", ["idle", "charging", "unmetered"])
def test_what_the_machine_does_not_tell_is_allowed_and_said(name: str) -> None:
    rules = dataclasses.replace(Policy(), only_idle=True)
    for state, declined, unknown in ((True, 0, 0), (False, 1, 0), (None, 0, 1)):
        there = dataclasses.replace(NOON, **{name: state})
        assert len(reasons_to_decline(rules, MODEST, there, FRESH)) == declined
        assert len(unknowns(rules, there)) == unknown
        careless = dataclasses.replace(rules, **{f"only_{name.removeprefix('only_')}": False})
        assert not reasons_to_decline(careless, MODEST, there, FRESH)
        assert not unknowns(careless, there)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("hours", "9-17", ["hours", "22:00-07:00", "'9-17'"]),
        ("hours", "24:00-07:00", ["hours"]),
        ("only_idle", "perhaps", ["only_idle", "yes or no"]),
        ("least_cohort", "2", ["least_cohort", "at least 3", "not 2"]),
        ("least_cohort", "many", ["whole number", "'many'"]),
        ("record_epsilon", "0", ["record_epsilon", "greater than 0"]),
        ("record_epsilon", "-1", ["greater than 0"]),
        ("record_epsilon", "nan", ["record_epsilon", "'nan'"]),
        ("user_epsilon", "inf", ["user_epsilon", "none"]),
        ("delta", "0", ["delta", "between 0 and 1"]),
        ("delta", "1", ["delta"]),
        ("upload_bytes", "0", ["upload_bytes", "at least 1"]),
        ("models", "", ["models"]),
        ("models", "a,,b", ["models"]),
        ("appetite", "1", ["'appetite'", "hours"]),
    ],
)
def test_values_that_cannot_be(name: str, text: str, words: list[str]) -> None:
    with pytest.raises(InputError) as told:
        policies.changed(Policy(), {name: text})
    assert all(word in str(told.value) for word in words)
    assert str(told.value).count("\n") == 0


EPSILONS = st.floats(1e-6, 1e6) | st.just(math.inf)
CLOCKS = st.times().map(lambda at: at.strftime("%H:%M"))
POLICIES = st.builds(
    Policy,
    hours=st.just("always") | st.tuples(CLOCKS, CLOCKS).map("-".join),
    only_idle=st.booleans(),
    only_charging=st.booleans(),
    only_unmetered=st.booleans(),
    least_cohort=st.integers(3, 10**6),
    record_epsilon_round=EPSILONS,
    record_epsilon=EPSILONS,
    user_epsilon=EPSILONS,
    delta=st.floats(1e-12, 0.5),
    upload_bytes=st.integers(1, 10**12),
    models=st.lists(st.from_regex(r"[\w./-]+", fullmatch=True), min_size=1).map(tuple),
)


@given(POLICIES)
def test_what_is_stored_and_shown_is_read_back(rules: Policy) -> None:
    assert policies.decode(rules.encode()) == rules
    shown = {name.replace("_", "-"): policies.shown(rules, name) for name in policies.names()}
    assert policies.changed(Policy(), shown) == rules


def test_no_stored_policy_is_the_default() -> None:
    assert policies.decode(None) == Policy()


def test_every_setting_says_what_it_is() -> None:
    assert all(policies.meaning(name) for name in policies.names())


def supply(folder: Path, name: str, **files: str) -> None:
    (folder / name).mkdir(parents=True)
    for file, content in files.items():
        (folder / name / file).write_text(content + "\n")


@pytest.mark.parametrize(
    ("supplies", "charging"),
    [
        ([], True),  # a desktop has no battery
        ([{"type": "Battery", "status": "Discharging"}], False),
        ([{"type": "Battery", "status": "Charging"}], True),
        ([{"type": "Battery", "status": "Full"}], True),
        ([{"type": "Battery", "status": "Unknown"}], None),
        ([{"type": "Battery", "status": "Discharging"}, {"type": "Mains", "online": "0"}], False),
        ([{"type": "Battery", "status": "Not charging"}, {"type": "Mains", "online": "1"}], True),
        ([{"type": "Battery", "status": "Discharging"}, {"type": "USB", "online": "1"}], True),
        ([{"type": "Battery", "status": "Discharging", "scope": "Device"}], True),  # a mouse's
    ],
)
def test_mains_power(tmp_path: Path, supplies: list[dict[str, str]], charging: bool | None) -> None:
    for number, files in enumerate(supplies):
        supply(tmp_path, f"supply{number}", **files)
    assert machine.on_mains(tmp_path) is charging
    assert machine.on_mains(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("answer", "unmetered"),
    [
        ("echo u 1", False),
        ("echo u 3", False),
        ("echo u 2", True),
        ("echo u 4", True),
        ("echo u 0", None),
        ("true", None),
        ("exit 1", None),
        ("sleep 30", None),
    ],
)
def test_metered_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, unmetered: bool | None
) -> None:
    (tmp_path / "busctl").write_text(f"#!/bin/sh\nexec 2>/dev/null\n{answer}\n")
    (tmp_path / "busctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(machine, "QUERY_S", 0.5)
    monkeypatch.setattr(machine.sys, "platform", "linux")
    assert machine.surroundings().unmetered is unmetered


def test_the_machine_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.psutil, "cpu_percent", lambda _: 49.0)
    before = time.localtime()
    here = machine.surroundings()
    assert here.idle is True
    assert (here.minute - (60 * before.tm_hour + before.tm_min)) % 1440 in (0, 1)
    monkeypatch.setattr(machine.psutil, "cpu_percent", lambda _: 51.0)
    assert machine.surroundings().idle is False
    assert machine.surroundings(busy=False).idle is None


@pytest.mark.parametrize(("battery", "charging"), [(None, True), ({"power_plugged": False}, False)])
def test_mains_power_on_another_platform(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, battery: Any, charging: bool
) -> None:
    found = battery and SimpleNamespace(**battery)
    monkeypatch.setattr(machine, "POWER_SUPPLIES", tmp_path / "none")
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    monkeypatch.setattr(machine.psutil, "sensors_battery", lambda: found, raising=False)
    assert machine.surroundings(busy=False).charging is charging
