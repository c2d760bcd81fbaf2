"""What a server asks for before the update costs nothing, and gives it nothing to choose from."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from made_up_people import Runner, write_people

from client.federation import draws, membership, participation
from client.federation.device import Device, Identity
from client.vault.store import Store
from common.adapter.weights import Shared, encode_shared
from common.errors import ProtocolError
from common.learning.backbone import adapter_plans
from common.rounds.round_terms import failures, graph_for, round_terms
from common.secagg import Aggregator, RoundTerms, certify, messages
from common.secagg.parameters import DRAW_BITS, MOST_DRAWS, PRIVACY_BITS
from common.settings import Settings
from common.tasks.chat import Turn
from simulations.report.promises import secure_sum

SETTINGS = Settings.of(model="tiny", users=3, examples=4, layers=1)
MEMBERS = (1, 2, 3)
TOO_FEW_OPENED = (
    "too few holders opened the shares of 1 of the members; who is at fault cannot be known"
)
ANSWERS = tuple(Turn(f"and what of {n}?", f"the garden, {n} times") for n in range(4))


class Round:
    """Three devices, and a server that begins as many attempts as it likes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.time, self.attempt = folder, 1e9, -1
        self.plan = adapter_plans(SETTINGS)[0]
        self.start = encode_shared(Shared(self.plan, self.plan.initial(self.plan.sent)))
        self.authority, self.devices = Ed25519PrivateKey.generate(), dict[int, Device]()
        keys = {member: Ed25519PrivateKey.generate() for member in MEMBERS}
        self.papers = {
            m: (key, certify(self.authority, m, key.public_key())) for m, key in keys.items()
        }
        for member in MEMBERS:
            self.restart(member)

    def restart(self, member: int) -> None:
        """The device again, as it is after its process died: what it knows is in its database."""
        db = sqlite3.connect(self.folder / f"{member}.db", isolation_level=None)
        store = Store(db, "store", clock=lambda: self.time)
        identity = Identity(*self.papers[member], self.authority.public_key())
        self.devices[member] = Device(member, ANSWERS, ANSWERS[:1], store, identity)

    def terms(self, attempt: int, number: int = 1, run: str = "run") -> RoundTerms:
        return round_terms(SETTINGS, self.plan.dimension, run, number, attempt, 3)

    def advertise(self, member: int, terms: RoundTerms) -> bytes:
        return participation.advertise(self.devices[member], SETTINGS, terms.encode())

    def roster(self, terms: RoundTerms) -> dict[int, bytes]:
        self.server = Aggregator(terms, self.authority.public_key())
        return self.server.roster({m: self.advertise(m, terms) for m in MEMBERS})

    def inboxes(self, terms: RoundTerms) -> dict[int, bytes]:
        rosters = self.roster(terms)
        return self.server.inboxes({m: self.share(m, rosters[m], terms.round) for m in MEMBERS})

    def share(self, member: int, roster: bytes, number: int = 1) -> bytes:
        return participation.share(self.devices[member], number, roster)

    def update(self, member: int, inbox: bytes, number: int = 1) -> bytes:
        return participation.update(self.devices[member], SETTINGS, number, inbox, self.start)

    def charged(self, member: int) -> int:
        return len(self.devices[member].store.ledger.trainings())


@pytest.fixture
def made(tmp_path: Path) -> Round:
    return Round(tmp_path)


def test_holders_are_drawn_once_for_an_attempt(made: Round) -> None:
    """The same terms asked again once holders are known: refused; a later attempt is another."""
    terms = made.terms(3)
    rosters = made.roster(terms)
    first = made.advertise(1, terms)  # the last question once more
    assert messages.decode_roster(terms.digest(), rosters[1])[1].encode() == first[42:]
    assert made.share(1, rosters[1]) == made.share(1, rosters[1])
    for again in (terms, made.terms(2), made.terms(0)):
        with pytest.raises(ProtocolError, match="chosen in attempt 3"):
            made.advertise(1, again)
    made.restart(1)
    with pytest.raises(ProtocolError, match="chosen in attempt 3"):
        made.advertise(1, terms)
    with pytest.raises(ProtocolError):  # what fails afterwards does not make room
        made.update(1, bytes(42))
    with pytest.raises(ProtocolError, match="chosen in attempt 3"):
        made.advertise(1, terms)
    made.advertise(1, made.terms(4))


def test_an_attempt_that_was_charged_is_refused_in_the_first_leg(made: Round) -> None:
    """A restored server asks for it again, when its draw is no longer known: it counts nothing."""
    terms = made.terms(0)
    made.update(1, made.inboxes(terms)[1])
    made.inboxes(made.terms(0, run="another"))  # in place of the draw for the first run
    for _ in range(2):
        with pytest.raises(ProtocolError, match="round 1, attempt 0 was charged already"):
            made.advertise(1, terms)
    made.advertise(2, made.terms(1))
    made.advertise(1, made.terms(1))
    made.advertise(1, made.terms(0, 2))
    assert made.charged(1) == 1


def test_keys_alone_can_be_made_again(made: Round) -> None:
    """Who was asked for keys and no more has given the server nothing to choose from."""
    for _ in range(3):
        assert made.advertise(1, made.terms(0)) != made.advertise(1, made.terms(1))


@pytest.mark.parametrize("named", ["attempts", "rounds", "runs"])
def test_few_draws_for_one_update(made: Round, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    """Whatever a server calls them. Restarts do not make room; a day does, for one."""
    monkeypatch.setattr(draws, "SPARE", 3)

    def terms(count: int) -> RoundTerms:
        if named == "rounds":
            return made.terms(count, 1 + count % 3)
        return made.terms(count) if named == "attempts" else made.terms(0, run=f"run-{count}")

    for count in range(3):
        inboxes = made.inboxes(terms(count))
        made.restart(1)
    with pytest.raises(ProtocolError, match="chosen 3 times"):
        made.advertise(1, terms(3))
    made.time += 86_401
    inboxes = made.inboxes(terms(3))
    with pytest.raises(ProtocolError, match="chosen 4 times"):
        made.advertise(1, terms(4))
    number = terms(3).round
    assert made.update(1, inboxes[1], number)
    made.advertise(1, made.terms(5, number))
    assert made.charged(1) == 1


def test_the_chance_of_exposure_is_for_all_draws_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a device waits for an update, its draws are no more than were counted with."""
    assert 2.0**-DRAW_BITS * MOST_DRAWS == 2.0**-PRIVACY_BITS == 2.0**-60
    store = Store(sqlite3.connect(":memory:", isolation_level=None), "m", clock=lambda: 1e12)
    store.put(draws.COUNTED, b'{"draws": 4095, "since": 0}')
    terms = RoundTerms("r", 1, 0, 0, 10, 0.05, 24, 1000, 2.5, 5, 4, 1, 4, 3, 1, "0" * 64)
    draws.require_new(store, terms)
    draws.note(store, terms)
    with pytest.raises(ProtocolError, match="4096 are allowed"):
        draws.require_new(store, dataclasses.replace(terms, attempt=1))
    for cohort in (30, 100, 1000):
        assert failures(graph_for(Settings.of(users=cohort).sum, cohort))[0] <= -60


def test_leaving_and_joining_again_begins_anew(made: Round) -> None:
    made.inboxes(made.terms(0))
    store = made.devices[1].store
    membership.forget(store)
    assert store.keys("draw") == []


def test_keys_of_two_rounds_make_no_room_for_one_draw_more(
    made: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draws, "SPARE", 1)
    first, second = made.roster(made.terms(0)), made.roster(made.terms(0, 2))
    assert made.share(1, first[1])
    with pytest.raises(ProtocolError, match="chosen 1 times"):
        made.share(1, second[1], 2)


@pytest.mark.parametrize("wrong", [bytes(42), b"", "bent", "another's"])
def test_a_malformed_inbox_costs_nothing(made: Round, wrong: Any) -> None:
    """No training, no charge; and the round can still be made with the inbox that is right."""
    inboxes = made.inboxes(made.terms(0))
    bent = inboxes[1][:40] + bytes([inboxes[1][40] ^ 1]) + inboxes[1][41:]
    message = {"bent": bent, "another's": inboxes[2]}.get(wrong, wrong)
    if wrong == "another's":
        assert participation.open_inbox(made.devices[2], 1, message)
    else:
        with pytest.raises(ProtocolError):
            participation.open_inbox(made.devices[1], 1, message)
        with pytest.raises(ProtocolError):
            made.update(1, message)
    assert made.charged(1) == 0
    assert "update" not in [upload.what for upload in made.devices[1].store.uploads()]


def test_who_shares_what_does_not_open_costs_the_others_nothing(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One of six seals rubbish for everybody: the round is made without it, paid for once."""
    real, liars = participation.share, set[int]()

    def share(device: Device, number: int, roster: bytes) -> bytes:
        sent = real(device, number, roster)
        liars.add(min({device.member, *liars}))
        if device.member != min(liars):
            return sent
        terms = participation._terms(device, number)
        shares = messages.decode_shares(terms.digest(), device.member, sent)
        rubbish = messages.Shares(shares.commitment, dict.fromkeys(shares.sealed, bytes(160)))
        return messages.encode_shares(terms.digest(), device.member, rubbish)

    monkeypatch.setattr(participation, "share", share)
    report = run(write_people(tmp_path / "six", 6), "run", "--rounds", "2")
    log = [(entry["status"], entry["survivors"]) for entry in report["rounds_log"]]
    assert log == [("done", 5), ("done", 5)]
    assert caplog.messages.count(f"round 1: {TOO_FEW_OPENED}") == 1
    assert "refused" not in caplog.text
    spent = []
    for file in sorted((tmp_path / "run/devices").glob("*.db")):
        store = Store.open(file)
        spent.append(len(store.ledger.trainings()))
        store.close()
    assert sorted(spent) == [0, 2, 2, 2, 2, 2]


def test_one_of_three_who_blames_another_accuses_nobody(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round cannot be made; the log of rounds says what is known, and nobody is charged."""
    real, members = participation.open_inbox, set[int]()

    def open_inbox(device: Device, number: int, inbox: bytes) -> bytes:
        members.add(device.member)
        if device.member != min(members):
            return real(device, number, inbox)
        digest = participation._terms(device, number).digest()
        blamed = min(messages.decode_inbox(digest, inbox).sealed)
        return messages.encode_opened(digest, device.member, [blamed])

    monkeypatch.setattr(participation, "open_inbox", open_inbox)
    report = run(write_people(tmp_path / "three", 3), "run", "--rounds", "1", exit_code=1)
    entry = report["rounds_log"][0]
    assert (entry["status"], entry["charged"]) == ("abandoned", False)
    assert entry["why"] == f"2 members are left, 3 are needed: {TOO_FEW_OPENED}."


def test_what_a_run_says_of_its_secure_sum_names_what_it_rests_on() -> None:
    said = secure_sum(graph_for(SETTINGS.sum, 3))
    assert "exposure impossible unless the server invents devices" in said
    assert "sums of repeated attempts can be subtracted" in said
    assert "exposure ≤ 2^-6" in secure_sum(graph_for(SETTINGS.sum, 1000))
