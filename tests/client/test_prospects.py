"""`join` lays a federation's terms beside the policy; `status` says the reason that stays."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.cli import main
from client.commands import join
from client.federation import joining
from client.federation.joining import Membership
from client.federation.policy import Policy, SoFar, reasons_to_decline
from client.federation.prospects import EVERY, LATER, expected, rows
from client.federation.surroundings import Surroundings
from client.vault import unlocking
from client.vault.store import Store
from client.vault.unlocking import Cost
from common.enrolment.offer import Offer
from common.errors import DecodeError
from common.settings import Settings

INVITE = ("https://village:1", "CODE", "--ca-fingerprint", "AB", "--no-start")
AUTHORITY = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
OTHERS = Offer("village", Settings.of(model="tiny", users=3))


@pytest.fixture
def offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[Offer]:
    """A vault, and a federation that offers what is in this list; who joins is member 7."""
    monkeypatch.setattr(unlocking, "DEFAULT_COST", Cost(1, 8, 1))
    file = tmp_path / "passphrase"
    file.touch(0o600)
    file.write_text("correct horse battery\n")
    monkeypatch.setenv("PRIVITY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PRIVITY_PASSPHRASE_FILE", str(file))
    assert main(["init"]) == 0
    capsys.readouterr()
    offer = [OTHERS]
    monkeypatch.setattr(joining, "offered", lambda *_: offer[0])

    def enrol(url: str, *_: Any, **__: Any) -> Membership:
        return Membership(url, b"", 7, b"", AUTHORITY, offer[0].federation)

    monkeypatch.setattr(joining, "join", enrol)
    return offer


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    assert main(list(arguments)) == 0
    found = capsys.readouterr()
    return found.out, found.err


def status(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(said(capsys, "status", "--json")[0])["declined"]["always"]


@pytest.mark.usefixtures("offered")
def test_who_joins_what_it_would_decline_is_told_so_and_what_changes_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A federation of three with another model than the default."""
    out, err = said(capsys, "join", *INVITE)
    for line in ("model", "devices in a sum"):
        (shown,) = [one for one in out.splitlines() if one.startswith(line)]
        assert shown.endswith(EVERY)
    assert "4.18" in out and "member 7 of 'village'" in out
    assert "Every round would be declined by your policy, because of: model, devices in a" in err
    (command,) = [part for part in err.splitlines() if "To allow it: " in part]
    assert len(status(capsys)) == 2
    assert "all declined: The sum could be of 3 devices" in said(capsys, "status")[0]
    said(capsys, "policy", "--set", "models=smollm2-135m,tiny")
    assert status(capsys) == ["The sum could be of 3 devices only, fewer than 6."]
    said(capsys, *shlex.split(command.split("To allow it: ")[1])[1:])
    assert status(capsys) == []
    said(capsys, "policy", "--set", "delta=1e-9")
    assert len(status(capsys)) == 1


def test_nothing_is_said_where_nothing_is_declined(
    offered: list[Offer], capsys: pytest.CaptureFixture[str]
) -> None:
    offered[0] = Offer("town", Settings.of(users=8))
    out, err = said(capsys, "join", *INVITE)
    assert err == "" and EVERY not in out
    assert status(capsys) == []


@pytest.mark.parametrize(
    ("answer", "options", "joins"),
    [("n", [], False), ("", [], False), ("y", [], True), (EOFError, [], False),
     ("", ["--yes"], True)],
)  # fmt: skip
@pytest.mark.usefixtures("offered")
def test_on_a_terminal_the_person_is_asked(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: Any,
    options: list[str],
    joins: bool,
) -> None:
    asked: list[str] = []

    def typed(prompt: str) -> str:
        asked.append(prompt)
        if answer is EOFError:
            raise EOFError
        return str(answer)

    monkeypatch.setattr(join, "input", typed, raising=False)
    monkeypatch.setattr(join.sys.stdin, "isatty", lambda: True)
    out, _ = said(capsys, "join", *INVITE, *options)
    assert asked == ([] if options else ["Join all the same? [y/N] "])
    assert ("member 7" in out) is joins
    assert ("the invite is still good" in out) is not joins
    assert (json.loads(said(capsys, "status", "--json")[0])["federation"] is not None) is joins


def test_a_plan_that_outgrows_the_policy_is_declined_later(tmp_path: Path) -> None:
    ledger = Store.open(tmp_path / "device.db").ledger
    asked = expected(OTHERS.settings, ledger)
    policy = Policy(models=("tiny",), least_cohort=3, record_epsilon=5.0)
    declined = [one for one in rows(policy, OTHERS.settings, asked, SoFar()) if one.declined]
    assert [(one.declined, one.changes) for one in declined] == [(LATER, ("record_epsilon=8",))]


def test_the_table_says_every_round_exactly_where_the_policy_would(tmp_path: Path) -> None:
    ledger, now = Store.open(tmp_path / "device.db").ledger, Surroundings(0)
    choices = itertools.product(
        ({}, {"dp": False}, {"user_epsilon": 4.0}, {"delta": 1e-4}),
        ({}, {"record_epsilon": 3.0}, {"record_epsilon_round": 2.0}, {"user_epsilon": 1.0},
         {"user_epsilon": 6.0}, {"least_cohort": 3}, {"models": ("tiny",)}),
    )  # fmt: skip
    for changes, limits in choices:
        settings = OTHERS.settings.but(**changes)
        policy = dataclasses.replace(Policy(models=("tiny",), least_cohort=3), **limits)
        asked = expected(settings, ledger)
        table = rows(policy, settings, asked, SoFar())
        declined = [one for one in table if one.declined == EVERY]
        assert bool(declined) == bool(reasons_to_decline(policy, asked, now, SoFar()))


def test_a_model_of_an_odd_name_is_shown_and_not_suggested(tmp_path: Path) -> None:
    settings = Settings.of(model="evil\x1b[2J,model", users=3)
    asked = expected(settings, Store.open(tmp_path / "device.db").ledger)
    first = rows(Policy(), settings, asked, SoFar())[0]
    assert (first.asked, first.declined, first.changes) == ("evil[2J,model", EVERY, ())


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"\xff", b"[" * 9000, OTHERS.encode()[:-1],
     OTHERS.encode().replace(b'"version": 1', b'"version": 2'),
     OTHERS.encode().replace(b'"users"', b'"more"'), b" " * 20_000],
)  # fmt: skip
def test_other_terms_than_are_known_are_refused(data: bytes) -> None:
    assert Offer.decode(OTHERS.encode()) == OTHERS
    with pytest.raises(DecodeError):
        Offer.decode(data)
