"""A device holds the terms and the roster of a round against the enrolment log it knows."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.federation import participation
from client.federation.device import Device, Identity
from client.federation.enrolled import KnownLog
from client.federation.joining import Membership
from client.federation.membership import keep, keys
from client.federation.service import Service
from client.vault.store import Store
from common.enrolment.log import DAY_S, EnrolmentLog, EntryKind, LogEntry
from common.errors import ProtocolError
from common.learning.backbone import adapter_plans
from common.rounds.round_terms import round_terms
from common.secagg import Aggregator, RoundTerms, certify
from common.settings import Settings
from common.tasks.chat import Turn
from server.round.cohort import Cohort
from server.round.setup import Drawn, enrolled

SETTINGS = Settings.of(model="tiny", users=3, examples=4, layers=1)
AUTHORITY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
MEMBERS = (1, 2, 3)
ANSWERS = (Turn("and what of it?", "the garden"),)
NOW = 1_900_000_000
END = NOW + 30 * DAY_S


def key(member: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"%d" % member).digest())


def entry(member: int, kind: EntryKind = EntryKind.ENROLLED, until: int = END) -> LogEntry:
    return LogEntry(kind, member, key(member).public_key().public_bytes_raw(), until)


def log(*entries: LogEntry, by: Ed25519PrivateKey = AUTHORITY) -> EnrolmentLog:
    made = EnrolmentLog(by.public_key())
    for one in entries:
        made.append(one)
    made.sign(by)
    return made


THREE = log(*map(entry, MEMBERS))


def device(folder: Path, member: int, certified: Ed25519PrivateKey | None = None) -> Device:
    own, public = key(member) if certified is None else certified, AUTHORITY.public_key()
    store = Store.open(folder / f"{member}.db")
    return Device(
        member, ANSWERS, ANSWERS, store,
        Identity(own, certify(AUTHORITY, member, own.public_key()), public),
        enrolled=KnownLog(store, public, lambda: NOW),
    )  # fmt: skip


def terms(about: EnrolmentLog, number: int = 1, attempt: int = 0) -> RoundTerms:
    dimension = adapter_plans(SETTINGS)[0].dimension
    made = round_terms(SETTINGS, dimension, "run", number, attempt, 3)
    return replace(made, log_size=about.size, log_head=about.head.hex() if about.size else "")


def advertise(
    who: Device, about: EnrolmentLog, since: int = 0, number: int = 1, attempt: int = 0
) -> bytes:
    offered = terms(about, number, attempt).encode()
    return participation.advertise(who, SETTINGS, offered, about.part(since))


def share(folder: Path, about: EnrolmentLog, **certified: Ed25519PrivateKey) -> bytes:
    """What member 1 answers to the roster of all three."""
    people = {m: device(folder, m, certified.get(f"member{m}")) for m in MEMBERS}
    adverts = {member: advertise(one, about) for member, one in people.items()}
    rosters = Aggregator(terms(about), AUTHORITY.public_key()).roster(adverts)
    return participation.share(people[1], 1, rosters[1])


def test_members_of_the_log_share(tmp_path: Path) -> None:
    assert share(tmp_path, THREE)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        (log(entry(1), entry(2)), "Member 3 is not in the enrolment log"),
        (
            log(*map(entry, MEMBERS), entry(3, EntryKind.GONE, NOW)),
            "Member 3 has left or was revoked",
        ),
        (log(entry(1), entry(2), entry(3, until=NOW - DAY_S - 1)), "member 3 has expired"),
        (log(entry(1), entry(3), replace(entry(2), key=entry(4).key)), "Member 2 is not in"),
    ],
)
def test_a_roster_with_somebody_who_should_not_be_there(
    tmp_path: Path, about: EnrolmentLog, words: str
) -> None:
    with pytest.raises(ProtocolError, match=words):
        share(tmp_path, about)


def test_an_authority_that_certifies_another_key_for_a_members_number(tmp_path: Path) -> None:
    """The certificate is genuine; the log says that the number is another device's."""
    with pytest.raises(ProtocolError, match="Member 2 is not in the enrolment log with its key"):
        share(tmp_path, THREE, member2=Ed25519PrivateKey.generate())


def test_the_log_may_grow_between_rounds_and_the_person_sees_it(tmp_path: Path) -> None:
    one = device(tmp_path, 1)
    assert one.enrolled
    assert "not known" in one.enrolled.words(1)
    advertise(one, THREE)
    assert one.enrolled.words(1).startswith("3 devices; in the last 30 days")
    assert "0 come and 0 leave" in one.enrolled.words(1)
    five = log(*map(entry, (*MEMBERS, 4, 5)))
    advertise(one, five, since=3, number=2)
    assert one.enrolled.words(1).startswith("5 devices; in the last 30 days")
    assert "2 come and 0 leave" in one.enrolled.words(1)
    assert f"after 5 entries is {five.head.hex()[:16]}:" in one.enrolled.words(1)
    six = log(*map(entry, (*MEMBERS, 4, 5)), entry(1, EntryKind.GONE, NOW))
    advertise(one, six, since=5, attempt=1, number=2)
    assert "4 devices, this one no longer" in one.enrolled.words(1)
    assert "2 come and 1 leave" in one.enrolled.words(1)


def learn(store: Store, about: EnrolmentLog, day: float) -> str:
    """What the person is told on a day after a round with this log."""
    seen = KnownLog(store, AUTHORITY.public_key(), lambda: NOW + day * DAY_S)
    seen.require_log(terms(about), about.part())
    return seen.words(1)


def test_growth_is_not_hidden_by_what_comes_after_it(tmp_path: Path) -> None:
    """Neither by other news, small steps, as many that leave, nor a device that was off."""
    store, entries = Store.open(tmp_path / "1.db"), [*map(entry, MEMBERS)]
    assert "0 come and 0 leave" in learn(store, log(*entries), 0)
    entries += [entry(member) for member in range(4, 14)]
    assert "10 come and 0 leave" in learn(store, log(*entries), 0.1)
    entries.append(entry(1, EntryKind.RENEWED, END + 300 * DAY_S))
    assert "10 come and 0 leave" in learn(store, log(*entries), 0.2)
    for step in range(20):
        entries += [
            entry(20 + step),
            entry(4 + step if step < 10 else 10 + step, EntryKind.GONE, NOW),
        ]
        assert f"{11 + step} come and {1 + step} leave" in learn(store, log(*entries), 1 + step)
    assert "19 come and 19 leave" in learn(store, log(*entries), 32)  # those of days 2 to 20
    assert "0 come and 0 leave" in learn(store, log(*entries), 60)
    entries.append(entry(50))
    assert "1 come and 0 leave" in learn(store, log(*entries), 100)


def test_a_clock_that_was_ahead_hides_no_growth(tmp_path: Path) -> None:
    store, entries = Store.open(tmp_path / "1.db"), [*map(entry, MEMBERS)]
    learn(store, log(*entries), 0)
    entries.append(entry(4))
    learn(store, log(*entries), 1)
    entries.append(entry(5))
    learn(store, log(*entries), 400)
    entries.append(entry(6))
    assert "3 come" in learn(store, log(*entries), 2)
    assert "0 come" in learn(store, log(*entries), 40)


def test_a_device_that_was_renewed_without_a_round_since_is_not_told_that_it_is_out(
    tmp_path: Path,
) -> None:
    words = learn(Store.open(tmp_path / "1.db"), THREE, 31)
    assert "by the log of the last round, its enrolment has ended: unless it was renewed" in words
    assert "no longer" not in words


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (log(entry(1), entry(2)), "shrank"),
        (log(entry(1), entry(2), entry(4)), "rewritten"),
        (log(entry(2), entry(1), entry(3), entry(4)), "rewritten"),
        (log(*map(entry, (*MEMBERS, 4)), by=key(9)), "signature"),
        (EnrolmentLog(AUTHORITY.public_key()), "no enrolment log"),
    ],
)
def test_another_log_than_the_one_that_is_known(
    tmp_path: Path, shown: EnrolmentLog, words: str
) -> None:
    one = device(tmp_path, 1)
    advertise(one, THREE)
    before = one.store.get("enrolment/log")
    with pytest.raises(ProtocolError, match=words):
        offered = terms(shown, 2).encode()
        participation.advertise(one, SETTINGS, offered, shown.part() if shown.size else b"")
    assert one.store.get("enrolment/log") == before
    assert not one.store.get("terms/2")  # no key of that round was made


def test_terms_about_another_log_than_the_one_sent(tmp_path: Path) -> None:
    one, four = device(tmp_path, 1), log(*map(entry, (*MEMBERS, 4)))
    for sent in (THREE.part(), b""):
        with pytest.raises(ProtocolError, match="not about the enrolment log"):
            participation.advertise(one, SETTINGS, terms(four).encode(), sent)


def test_a_log_with_a_gap(tmp_path: Path) -> None:
    """The server believes that the device has what it lost: next time it gets everything."""
    with pytest.raises(ProtocolError, match="gap from 0 to 2"):
        advertise(device(tmp_path, 1), THREE, since=2)


@pytest.mark.parametrize(
    ("days", "gone", "asked"), [(89, False, True), (91, False, False), (89, True, False)]
)
def test_a_device_has_its_enrolment_renewed_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, gone: bool, asked: bool
) -> None:
    entries = [entry(1, until=int(time.time()) + days * DAY_S)]
    entries += [entry(1, EntryKind.GONE, NOW)] * gone
    assert renewals(tmp_path, monkeypatch, log(*entries)) == [1] * asked


def test_a_device_that_was_in_no_round_yet_asks_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows no log, so not until when it is enrolled; the desk renews nothing too early."""
    assert renewals(tmp_path, monkeypatch, None) == [1]


def renewals(
    folder: Path, monkeypatch: pytest.MonkeyPatch, known: EnrolmentLog | None
) -> list[int]:
    """Who asked to be renewed, by a process that looks three times on one day."""
    store, public = Store.open(folder / "1.db"), AUTHORITY.public_key().public_bytes_raw()
    keys(store)
    keep(store, Membership("https://a:1", b"", 1, b"", public, "Ours"))
    if known:
        store.put("enrolment/log", known.part())
    calls: list[int] = []
    monkeypatch.setattr(
        "client.federation.service.renew", lambda known, *_, **__: calls.append(known.member)
    )
    service = Service(SimpleNamespace(store=store), threading.Event())  # type: ignore[arg-type]
    for _ in range(3):
        service._renew_in_time()
    return calls


# The server's side


def test_who_is_gone_or_ends_soon_is_not_drawn() -> None:
    soon = NOW + DAY_S // 2
    known = log(entry(1), entry(2), entry(3, until=soon), entry(4), entry(4, EntryKind.GONE, NOW))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.round.setup.time.time", lambda: NOW)
        assert enrolled(known, [1, 2, 3, 4, 5]) == [1, 2]
    assert enrolled(None, [1, 5]) == [1, 5]


def test_each_member_is_sent_what_it_lacks() -> None:
    known: dict[int, int] = {}

    def drawn(about: EnrolmentLog) -> Drawn:
        offered = terms(about)
        server = Aggregator(offered, AUTHORITY.public_key())
        return Drawn(Cohort(1, 0, [1, 2, 3], lambda *_: False), offered, server, about, known)

    first = drawn(THREE)
    sent = first.advertise().contents
    assert {one["log"] for one in sent.values()} == {THREE.part()}
    known |= dict.fromkeys((1, 2), THREE.size)  # who answered
    four = log(*map(entry, (*MEMBERS, 4)))
    sent = drawn(four).advertise().contents
    assert sent[1]["log"] == sent[2]["log"] == four.part(3)
    assert sent[3]["log"] == four.part()
    assert {one["log"] for one in drawn(four).advertise().contents.values()} == {four.part()}
