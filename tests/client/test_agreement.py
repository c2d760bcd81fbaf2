"""What was agreed on in the first leg holds in the others, whatever run a message says it is of."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from other_steps import with_steps

import common.learning.backbone
from client import app as client_app
from client.federation import examples as sets
from client.federation import membership, participation
from client.federation.device import Device, Identity
from client.federation.examples import sets_key
from client.federation.joining import Membership
from client.federation.node import Node
from client.federation.policy import KEY, Asked, Policy, SoFar, reasons_to_decline
from client.federation.service import Service
from client.federation.surroundings import Surroundings
from client.learning import adapters, in_use
from client.learning.adapters import kept_here
from client.vault.ledger import Charge
from client.vault.store import Store
from common.adapter.weights import Personal, Shared, encode_shared
from common.errors import DeclinedError, InputError, PrivityError, ProtocolError
from common.learning.backbone import adapter_plans
from common.privacy.accountant import Release
from common.records.records import Record, record_of
from common.rounds.round_terms import round_terms
from common.secagg import Aggregator, certify
from common.secagg.quantize import from_ring
from common.settings import Settings
from common.tasks.chat import Turn, turns
from common.tasks.sets import chosen

SETTINGS = Settings.of(model="tiny", users=3, examples=4, layers=1)
MEMBERS = (1, 2, 3)
ANSWERS = tuple(Turn(f"and what of {n}?", f"the garden, {n} times") for n in range(4))


class Federation:
    """Three devices with the protocol's own code, and a server that asks what it likes."""

    def __init__(
        self, folder: Path, settings: Settings, consent: Callable[[Asked], None] = lambda _: None
    ) -> None:
        self.settings, self.plan = settings, adapter_plans(settings)[0]
        self.authority = Ed25519PrivateKey.generate()
        self.start = Shared(self.plan, self.plan.initial(self.plan.sent))
        self.devices = {}
        for member in MEMBERS:
            key = Ed25519PrivateKey.generate()
            certificate = certify(self.authority, member, key.public_key())
            self.devices[member] = Device(
                member, ANSWERS, ANSWERS[:1], Store.open(folder / f"{member}.db"),
                Identity(key, certificate, self.authority.public_key()), consent=consent,
            )  # fmt: skip

    def prepared(self, number: int) -> tuple[Aggregator, dict[int, bytes]]:
        """Legs 1 and 2 of a round: what each device gets with leg 3."""
        multiplier = 2.0 if self.settings.user.epsilon else 0.0
        terms = round_terms(self.settings, self.plan.dimension, "run", number, 0, 3, multiplier)
        self.terms = terms
        server = Aggregator(terms, self.authority.public_key())
        keys = {
            member: participation.advertise(device, self.settings, terms.encode())
            for member, device in self.devices.items()
        }
        shares = {
            member: participation.share(self.devices[member], number, roster)
            for member, roster in server.roster(keys).items()
        }
        inboxes = server.inboxes(shares)
        server.bind(bytes.fromhex(self.start.digest()))
        return server, inboxes

    def update(self, member: int, settings: Settings, number: int, inbox: bytes) -> bytes:
        adapter = encode_shared(self.start)
        return participation.update(self.devices[member], settings, number, inbox, adapter)


@pytest.mark.parametrize(
    "changed",
    [{"dp": False}, {"learning_rate": 1e-30}, {"epsilon": 100.0}, {"model": "someone/elses"}],
)
def test_a_device_trains_under_no_other_settings_than_it_agreed_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    """Other settings for each member would make the sum one member's own update (2111.07380)."""
    made = Federation(tmp_path, SETTINGS)
    _, inboxes = made.prepared(1)
    looked: list[str] = []
    monkeypatch.setattr(common.learning.backbone, "skeleton", looked.append)
    with pytest.raises(ProtocolError, match="not those that round 1 was agreed on"):
        made.update(1, SETTINGS.but(**changed), 1, inboxes[1])
    store = made.devices[1].store
    assert looked == []
    assert store.ledger.entries() == []
    assert "update" not in [upload.what for upload in store.uploads()]
    assert made.update(2, SETTINGS, 1, inboxes[2])  # the same asked rightly


@pytest.mark.parametrize("name", ["max_grad_norm", "user_clip"])
def test_a_bound_so_small_that_rounding_passes_it_is_refused(name: str) -> None:
    """Clipping is in float32, whose smallest steps would be larger than the bound allows for."""
    SETTINGS.but(**{name: 1e-6})
    with pytest.raises(InputError, match="at least 1e-06"):
        SETTINGS.but(**{name: 7e-45})


def test_what_is_left_of_the_policys_budget_is_asked_when_it_is_spent(tmp_path: Path) -> None:
    """Two rounds that were prepared before either update: the second knows of the first."""
    policy = Policy(record_epsilon=8.0, least_cohort=3, models=("tiny",))
    settings = SETTINGS.but(epsilon=12.0)

    def consent(asked: Asked) -> None:
        spent = made.devices[1].store.ledger.spent("record")
        assert spent
        if reasons := reasons_to_decline(
            policy, asked, Surroundings(0), SoFar(spent.epsilon, math.inf)
        ):
            raise DeclinedError(" ".join(reasons))

    made = Federation(tmp_path, settings, consent)
    inboxes = {number: made.prepared(number)[1] for number in (1, 2)}
    assert made.update(1, settings, 1, inboxes[1][1])
    with pytest.raises(DeclinedError, match="over 8"):
        made.update(1, settings, 2, inboxes[2][1])
    spent = made.devices[1].store.ledger.spent("record")
    assert spent
    assert 6 < spent.epsilon <= 8


def test_a_person_who_is_hidden_in_the_sum_never_refuses_because_of_their_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update that is not finite counts as zero and is sent with its noise like any other."""
    settings = SETTINGS.but(dp=False, user_epsilon=8.0)
    with_steps(monkeypatch, train_shared=lambda *given, **_: trained(*given))
    made = Federation(tmp_path, settings)
    server, inboxes = made.prepared(1)
    terms = made.terms
    size, levels = made.plan.dimension, terms.levels
    changes = iter((np.full(size, np.nan), np.full(size, np.inf), np.full(size, 1e-4)))

    def trained(_: Any, published: Shared, *__: Any) -> Any:
        sent = (published.vector + next(changes)).astype(np.float32)
        return SimpleNamespace(sent=sent, kept=np.zeros(0), loss=0.0, tokens=0)

    masked = {member: made.update(member, settings, 1, inboxes[member]) for member in MEMBERS}
    lists = server.survivors(masked)
    confirmed = {m: participation.confirm(made.devices[m], 1, lists[m]) for m in MEMBERS}
    asked = server.confirmations(confirmed)
    revealed = {m: participation.reveal(made.devices[m], 1, asked[m]) for m in MEMBERS}
    total = from_ring(server.unmask(revealed), terms.bits)
    noise = terms.noise * math.sqrt(3)
    assert np.abs(total).max() < 1e-4 / settings.user.clip * levels + 8 * noise
    assert np.std(total) > noise / 5  # of eight draws: a chance of 10^-4 to be below


def test_what_a_device_keeps_of_a_shared_adapter_belongs_to_its_plan(tmp_path: Path) -> None:
    """FedSA's B of one rank is not taken for that of another."""
    first = SETTINGS.but(sharing="fedsa", rank=1)
    made = Federation(tmp_path / "one", first)
    made.update(1, first, 1, made.prepared(1)[1][1])
    store = made.devices[1].store
    kept = kept_here(store, made.plan)
    assert kept is not None
    second = first.but(rank=2)
    wider = Federation(tmp_path / "two", second)
    wider.devices[1] = dataclasses.replace(made.devices[1], identity=wider.devices[1].identity)
    _, inboxes = wider.prepared(2)
    assert wider.update(1, second, 2, inboxes[1])
    assert kept_here(store, wider.plan) is not None
    np.testing.assert_array_equal(kept_here(store, made.plan), kept)


def service(folder: Path, policy: Policy, records: list[Record] | None = None) -> Service:
    """A person's process over a store and these records."""
    store = Store.open(folder / "device.db")
    store.put(KEY, policy.encode())
    authority = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    membership.keep(store, Membership("https://f:1", b"", 1, b"", authority, "f"))
    held = [] if records is None else records
    collection = SimpleNamespace(all=lambda: list(held), state=lambda: (len(held), 0))
    vault = SimpleNamespace(store=store, folder=folder, records=collection)
    return Service(vault, threading.Event())  # type: ignore[arg-type]


def said(count: int) -> list[Record]:
    return [
        record_of("message", {"text": f"{who} {n}", "author": who, "conversation": "c"})
        for n in range(count)
        for who in ("other", "me")
    ]


def context(**settings: Any) -> Any:
    return SimpleNamespace(run_config=Settings.of(**settings).to_dict(), run_id=1, node_config={})


@pytest.mark.parametrize("leg", ["advertise", "update", "adopt"])
def test_a_model_that_the_policy_does_not_allow_is_not_even_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leg: str
) -> None:
    person, looked = service(tmp_path, Policy(), said(9)), list[str]()
    elsewhere = context(model="someone/elses")
    monkeypatch.setattr(common.learning.backbone, "skeleton", looked.append)
    monkeypatch.setattr(client_app, "_opened", person._device)
    monkeypatch.setattr(client_app, "_refused", person._refused)
    answer = client_app._answer(leg, getattr(client_app, f"_{leg}"), elsewhere, {})
    assert answer == ({"body": b""} if leg == "adopt" else {"refused": "DeclinedError"})
    assert "'someone/elses' is not one of yours: smollm2-135m" in person._notes["declined"]
    assert looked == []
    assert in_use.settings_in_use(person.vault.store) == Settings()


def test_new_records_count_from_the_next_message_on(tmp_path: Path) -> None:
    records = said(10)
    person = service(tmp_path, Policy(models=("tiny",)), records)
    settings = Settings.of(model="tiny")
    with person._device(settings, None) as device:  # type: ignore[arg-type]
        before = [*device.train, *device.heldout]
        sides = set(device.train)
    records += said(20)[20:]
    with person._device(settings, None) as device:  # type: ignore[arg-type]
        assert len([*device.train, *device.heldout]) == 2 * len(before) == 20
        assert sides <= set(device.train)  # what was there stays where it was


def test_a_device_without_answers_takes_part_as_any_other(tmp_path: Path) -> None:
    """A refusal would tell the federation something about the archive."""
    with service(tmp_path, Policy(models=("tiny",)), [])._device(SETTINGS, None) as device:  # type: ignore[arg-type]
        assert (list(device.train), list(device.heldout)) == ([], [])
    (tmp_path / "made").mkdir()
    settings = SETTINGS.but(evaluation_epsilon=2.0)
    made = Federation(tmp_path / "made", settings)
    made.devices[1] = dataclasses.replace(made.devices[1], train=(), heldout=())
    inboxes = made.prepared(1)[1]
    sent = [made.update(member, settings, 1, inboxes[member]) for member in (1, 2)]
    assert len(sent[0]) == len(sent[1])
    ledgers = [made.devices[member].store.ledger for member in (1, 2)]
    assert len(ledgers[0].releases()) == 3  # training, evaluation, count
    assert ledgers[0].releases() == ledgers[1].releases()


def test_a_device_whose_records_grew_takes_part(tmp_path: Path) -> None:
    made = Federation(tmp_path, SETTINGS)
    assert made.update(1, SETTINGS, 1, made.prepared(1)[1][1])
    more = dataclasses.replace(made.devices[1], train=ANSWERS[1:])
    made.devices[1] = more
    assert made.update(1, SETTINGS, 2, made.prepared(2)[1][1])


def test_a_federations_settings_do_not_touch_the_persons_own(tmp_path: Path) -> None:
    """A personal adapter outlives another rank, and another model, which it does not fit."""
    store = Store.open(tmp_path / "device.db")
    mine = Settings.of(model="tiny", personal_rate=0.5)
    plan = adapter_plans(mine)[1]
    vector = np.arange(sum(rows * columns for rows, columns in shapes(plan)), dtype=np.float32)
    adapters.keep_personal(store, mine, Personal(plan, vector))
    theirs = SETTINGS.but(personal_rank=9, personal_rate=7.0, layers=0)
    shared = adapter_plans(theirs)[0]
    adapters.keep_shared(store, theirs, Shared(shared, shared.initial(shared.sent)))
    now = adapters.load(store)
    assert (now.settings.personal.rank, now.settings.personal.rate) == (8, 0.5)
    assert now.shared is not None
    adapters.keep_shared(store, mine, Shared(adapter_plans(mine)[0], start_of(mine)))
    back = adapters.load(store).personal
    assert back is not None
    np.testing.assert_array_equal(back.vector, vector)


def shapes(plan: Any) -> list[tuple[int, int]]:
    return [plan.shape(site, part) for site, part, _ in plan.entries(("A", "B"))]


def start_of(settings: Settings) -> Any:
    plan = adapter_plans(settings)[0]
    return plan.initial(plan.sent)


def test_an_adapter_is_used_only_if_it_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = service(tmp_path, Policy(models=("tiny",)), said(20))
    looked, real = set[str](), common.learning.backbone.skeleton
    monkeypatch.setattr(
        common.learning.backbone, "skeleton", lambda name: (looked.add(name), real(name))[1]
    )
    settings = SETTINGS.but(examples=48)  # so that some are held out
    plan, store = adapter_plans(settings)[0], person.vault.store
    store.put(sets.KEY, b"\3" * 32)  # a fifth of them is held out
    answers = chosen(
        turns(person.vault.records.all()), sets_key(person.vault.store), settings.rounds.examples
    )[1]
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.3, plan.dimension).astype(np.float32)
    good, _ = trained(person, plan)
    for vector, used in ((noise * 100, False), (good, True), (noise * 100, False)):
        before = adapters.shared_in_use(store)
        person._adopt(settings, Shared(plan, vector))
        now = adapters.shared_in_use(store)
        assert ("in use" in person._notes["adapter"]) is used
        assert f"{len(answers)} answers" in person._notes["adapter"]
        if used:
            assert now is not None
            np.testing.assert_array_equal(now.vector, vector)
        else:
            assert (now is None) == (before is None)
        assert in_use.settings_in_use(store) == settings  # the federation's model all the same
    assert [upload.what for upload in store.uploads()] == ["adopt"] * 3
    assert looked <= {"tiny"}  # not the default model


def trained(person: Service, plan: Any) -> tuple[Any, float]:
    """An adapter that was fitted to this person, without privacy."""
    from client.learning.training import train_shared
    from common.learning.backbone import backbone_for

    settings = SETTINGS.but(dp=False, optimizer="adamw", local_steps=20, learning_rate=1e-2)
    backbone = backbone_for(settings)
    start = Shared(plan, plan.initial(plan.sent))
    examples = backbone.prepared(person._divided(SETTINGS.task)[0])
    found = train_shared(
        backbone, start, None, examples, settings, None, np.random.default_rng(1).bytes
    )
    return found.sent, found.loss


def test_a_refusal_is_told_to_the_person_and_journalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = service(tmp_path, Policy(), said(9))
    monkeypatch.setattr(client_app, "_opened", person._device)
    monkeypatch.setattr(client_app, "_refused", person._refused)

    def broken(*_: Any) -> bytes:
        raise RuntimeError("the words were: garden")

    def spent(*_: Any) -> bytes:
        raise PrivityError("the budget is spent.")

    for leg, model, sent, key, words in (
        (broken, "tiny", "DeclinedError", "declined", "'tiny' is not one of yours"),
        (spent, "smollm2-135m", "failed", "refused", "the budget is spent."),
        (broken, "smollm2-135m", "failed", "refused", "RuntimeError at"),
    ):
        answer = client_app._answer("update", leg, context(model=model), {})
        assert answer == {"refused": sent}
        assert words in person._notes[key]
        assert person._notes[key].startswith("update, 20")
        assert "garden" not in person._notes[key]
    uploads = person.vault.store.uploads()
    assert [upload.what for upload in uploads] == ["refusal"] * 3
    assert all(upload.bytes for upload in uploads)


def test_an_odd_message_does_not_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskIdentity, "_run_id", 1)
    monkeypatch.setattr(TaskIdentity, "_task_id", 1)
    monkeypatch.setattr(TaskIdentity, "_node_id", 1)
    message = Message(RecordDict({"nothing": ConfigRecord({})}), 7, "query.nothing")
    node = Node(SimpleNamespace(), client_app.app, lambda _: None)  # type: ignore[arg-type]
    node._runs = {message.metadata.run_id: Context(1, 7, {}, RecordDict(), {})}
    reply = node._reply(message)
    assert dict(reply.content.config_records["nothing"]) == {"refused": "failed"}


def test_leaving_forgets_the_secrets_of_rounds_too(tmp_path: Path) -> None:
    made = Federation(tmp_path, SETTINGS)
    made.prepared(1)
    store = made.devices[1].store
    membership.keys(store)
    store.ledger.charge(Charge("run", 9, 0, Release(1.5, 0.5, 3), 0.25, "aa"))
    assert store.keys("round/")
    membership.forget(store)
    left = store._db.execute("SELECT key FROM state").fetchall()
    assert [key for (key,) in left if key not in ("loss", "policy")] == []
    assert len(store.ledger.releases()) == 1
