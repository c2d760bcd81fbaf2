"""Nothing that fails on a device tells the server anything about what the person wrote."""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from other_steps import with_steps

from client import app as client_app
from client.federation import examples, membership, participation, service, steps
from client.federation.device import Device, Identity
from client.federation.joining import Membership
from client.federation.policy import KEY, Policy
from client.federation.service import Service
from client.vault.store import Store
from common.adapter.weights import Shared, encode_shared
from common.errors import InputError, PrivityError
from common.learning.backbone import Backbone, adapter_plans
from common.records.records import record_of
from common.rounds.round_terms import round_terms
from common.secagg import Aggregator, certify
from common.settings import Settings
from common.tasks.chat import Chat, Turn
from common.tasks.language import LanguageScore

SETTINGS = Settings.of(model="tiny", users=3, examples=48, layers=1, evaluation_epsilon=1.0)
SECRET = "garden"
FAILURES = (
    RuntimeError(f"not enough memory for {SECRET}"),
    MemoryError(),
    OverflowError("math range error"),
    KeyError(SECRET),
    UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
    sqlite3.OperationalError("database or disk is full"),
    PrivityError(f"what was said: {SECRET}"),
    InputError(f"no model {SECRET}"),
    AssertionError(SECRET),
)
LEGS = {"advertise", "share", "update", "confirm", "reveal", "adopt"}


class World:
    """A person's own process among two other devices, and the server's side of a round."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plan, authority = adapter_plans(SETTINGS)[0], Ed25519PrivateKey.generate()
        self.start = Shared(self.plan, self.plan.initial(self.plan.sent))
        self.authority, public = authority, authority.public_key()
        store = Store.open(folder / "1.db")
        mine, certificate = membership.keys(store)[0], b""
        certificate = certify(authority, 1, mine.public_key())
        joined = Membership("https://f:1", b"", 1, certificate, public.public_bytes_raw(), "f")
        membership.keep(store, joined)
        store.put(
            examples.KEY, bytes(32)
        )  # with which there are some to train on and some held out
        policy = Policy(models=("tiny",), least_cohort=3, only_charging=False)
        store.put(KEY, policy.encode())
        self.records = [
            record_of(
                "message", {"text": f"{SECRET} {who} {n}", "author": who, "conversation": "c"}
            )
            for n in range(9)
            for who in ("other", "me")
        ]
        kept = SimpleNamespace(all=lambda: list(self.records), state=lambda: (1, 1))
        vault = SimpleNamespace(store=store, folder=folder, records=kept)
        self.person = Service(vault, threading.Event())  # type: ignore[arg-type]
        monkeypatch.setattr(service, "KnownLog", lambda *_: None)  # the others are simulated
        monkeypatch.setattr(client_app, "_opened", self.person._device)
        monkeypatch.setattr(client_app, "_refused", self.person._refused)
        self.others = {}
        for member in (2, 3):
            key = Ed25519PrivateKey.generate()
            identity = Identity(key, certify(authority, member, key.public_key()), public)
            turns = [Turn("and?", "yes")]
            other = Device(member, turns, turns, Store.open(folder / f"{member}.db"), identity)
            self.others[member] = other

    def answer(self, leg: str, **asked: Any) -> dict[str, Any]:
        context: Any = SimpleNamespace(
            run_config=SETTINGS.to_dict(), run_id=1, node_config={}, node_id=1
        )
        return dict(client_app._answer(leg, getattr(client_app, f"_{leg}"), context, asked))

    def adopt(self) -> dict[str, Any]:
        return self.answer("adopt", body=encode_shared(self.start))

    def update(self) -> dict[str, Any]:
        """The person's answer to leg 3 of a round, all legs before it included."""
        terms = round_terms(SETTINGS, self.plan.dimension, "run", 1, 0, 3, 0.0)
        server = Aggregator(terms, self.authority.public_key())
        adverts = {
            member: participation.advertise(device, SETTINGS, terms.encode())
            for member, device in self.others.items()
        }
        adverts[1] = self.answer("advertise", body=terms.encode())["body"]
        rosters = server.roster(adverts)
        shares = {
            member: participation.share(device, 1, rosters[member])
            for member, device in self.others.items()
        }
        shares[1] = self.answer("share", round=1, body=rosters[1])["body"]
        inbox = server.inboxes(shares)[1]
        return self.answer("update", round=1, body=inbox, adapter=encode_shared(self.start))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def raising(error: Exception) -> Callable[..., Any]:
    def broken(*_: Any, **__: Any) -> Any:
        raise error

    return broken


@pytest.mark.parametrize("leg", sorted(LEGS - {"adopt"}))
@pytest.mark.parametrize("error", FAILURES, ids=lambda one: type(one).__name__)
def test_a_leg_that_fails_is_answered_with_one_constant_word(
    world: World, monkeypatch: pytest.MonkeyPatch, leg: str, error: Exception
) -> None:
    monkeypatch.setattr(participation, leg, raising(error))
    assert world.answer(leg, body=b"", round=1, adapter=b"") == {"refused": "failed"}
    monkeypatch.setattr(Store, "journal_other", raising(error))  # and a vault that is full
    assert world.answer(leg, body=b"", round=1, adapter=b"") == {"refused": "failed"}


@pytest.mark.parametrize("error", FAILURES, ids=lambda one: type(one).__name__)
def test_who_is_offered_an_adapter_answers_the_same_whatever_comes_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    used = world.adopt()
    assert "adapter" in world.person._notes
    for place, name in (
        (service, "adopt"), (Backbone, "score"), (Backbone, "prepared"), (Chat, "examples"),
        (Store, "journal_other"),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            world.person._examples.clear()
            patch.setattr(place, name, raising(error))
            assert world.adopt() == used == {"body": b""}, name
    assert world.answer("adopt", body=b"no adapter") == used
    world.person.vault.store.put(KEY, Policy(models=("other",)).encode())
    assert world.adopt() == used
    assert "declined" in world.person._notes


@pytest.mark.parametrize("error", [FAILURES[0], FAILURES[6]], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize(
    ("place", "name"),
    [(Chat, "examples"), (Backbone, "losses"), (Backbone, "prepared"), (steps.Steps, "gain")],
)
def test_a_device_that_cannot_learn_from_its_records_sends_its_noise(
    world: World, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, error: Exception
) -> None:
    """Out of memory, a tokenizer that fails: the update looks like any other, and is charged."""
    real = getattr(place, name)

    def broken(*given: Any) -> Any:
        if name == "prepared" and not given[1]:
            return real(*given)
        raise error

    if place is steps.Steps:
        with_steps(monkeypatch, **{name: broken})
    else:
        monkeypatch.setattr(place, name, broken)
    answer = world.update()
    bits = round_terms(SETTINGS, world.plan.dimension, "run", 1, 0, 3, 0.0).bits
    assert list(answer) == ["body"]
    assert len(answer["body"]) > world.plan.dimension * bits // 8
    assert len(world.person.vault.store.ledger.trainings()) == 1
    assert "left examples out" in world.person._notes["failed"]
    if not isinstance(error, PrivityError):  # those promise to quote nobody
        assert SECRET not in str(world.person._notes)


def test_an_answer_that_cannot_be_read_is_left_out_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it took the others with it, it would move the sum by all that they are worth."""
    real, read, seen = steps.SOUND.train_shared, Chat.encode, []

    def encode(task: Chat, turn: Turn, tokenizer: Any) -> Any:
        if "unreadable" in turn.answer:
            raise Panic
        return read(task, turn, tokenizer)

    def trained(*given: Any, **parts: Any) -> Any:
        seen.append(len(given[3]))
        return real(*given, **parts)

    monkeypatch.setattr(Chat, "encode", encode)
    with_steps(monkeypatch, train_shared=trained)
    bad = {"text": "unreadable", "author": "me", "conversation": "c"}
    world.records[3] = record_of("message", bad, split="train")
    readable = len(world.person._divided(SETTINGS.task)[0]) - 1
    assert list(world.update()) == ["body"]
    assert seen == [readable]
    assert "left examples out" in world.person._notes["failed"]


class Panic(BaseException):
    """As pyo3 raises for a panic in Rust: no `Exception`."""


def test_an_update_that_is_not_finite_is_its_noise(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = steps.SOUND.train_shared, []

    def trained(*given: Any, **parts: Any) -> Any:
        found, examples = real(*given, **parts), given[3]
        if examples:
            found.sent[0] = np.nan
        seen.append(len(examples))
        return found

    with_steps(monkeypatch, train_shared=trained)
    assert list(world.update()) == ["body"]
    assert seen[0] > 0 and seen[1:] == [0]


def test_a_perplexity_that_is_no_number_is_infinite() -> None:
    assert LanguageScore(709.0 * 2, 0, 2).metrics()["perplexity"] < math.inf
    for nll in (709.79, 710.0, 1e6):
        assert LanguageScore(nll * 2, 0, 2).metrics()["perplexity"] == math.inf
    assert math.isnan(LanguageScore(math.nan, 0, 2).metrics()["perplexity"])
