"""A disk that is really full: one clear sentence, and nothing is lost or half done.

The disk is a small tmpfs, which only root may mount (Linux).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deployment import Federation, wait_for

from client.cli import main
from client.federation import participation
from client.federation.device import Device, Identity
from client.federation.service import Service, notes_of
from client.vault.store import Store
from client.vault.unlocking import Cost, Passphrase
from client.vault.vault import Vault
from common.adapter.plan import AdapterPlan, Site
from common.adapter.weights import Shared, encode_shared
from common.errors import InputError
from common.learning.backbone import adapter_plans
from common.records.records import record_of
from common.rounds.round_terms import round_terms
from common.secagg import Aggregator, certify
from common.settings import Settings
from common.tasks.chat import Turn
from server import app
from server.registry.goal import Plan, read_plan, write_plan
from server.registry.registry import Registry, RoundEntry, RuleState

DISK_BYTES, PAGE = 2 << 20, 4096
WORDS = "correct horse battery"
PLAN = AdapterPlan("toy", (Site("layer", 3, 4),), 2, 2.0, 0, "ffa")
SETTINGS = Settings.of(
    model="tiny", users=3, examples=8, rounds=1, layers=1, rank=1, modules="q_proj", task="chat"
)


def words() -> Passphrase:
    return Passphrase(lambda _: WORDS, Cost(1, 8, 1))


@contextmanager
def mounted(place: Path) -> Iterator[Path]:
    """A disk of two megabytes at `place`."""
    if sys.platform != "linux":
        pytest.skip(f"a small disk needs Linux's tmpfs, and this is {sys.platform}")
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    if not shutil.which("mount"):
        pytest.skip("`mount` is not installed")
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "privity-test", str(place)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk") as place:
        yield place


def fill(disk: Path, but: int = 0) -> None:
    """Leave `but` bytes."""
    room = os.statvfs(disk)
    with (disk / "filler").open("wb", buffering=0) as stream:
        os.posix_fallocate(stream.fileno(), 0, room.f_bavail * room.f_frsize - but)
    room = os.statvfs(disk)
    assert room.f_bavail * room.f_frsize == but


def make_room(disk: Path) -> None:
    (disk / "filler").unlink()


def facts(file: Path, count: int, length: int = 50) -> str:
    lines = [{"kind": "fact", "text": f"{file.name} {n} " + "x" * length} for n in range(count)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(file)


def test_a_clients_commands_on_a_full_disk(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.touch(0o600)
    passphrase.write_text(WORDS + "\n")
    monkeypatch.setenv("PRIVITY_PASSPHRASE_FILE", str(passphrase))
    home = ("--home", str(disk / "home"))

    def said(code: int, *arguments: str) -> str:
        assert main([*home, *arguments]) == code
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        assert captured.err.count("\n") == (code != 0)
        return captured.err if code else captured.out

    few, more = facts(tmp_path / "few", 20), facts(tmp_path / "more", 5)
    many = facts(tmp_path / "many", 4000, 999)
    said(0, "init")
    assert "20 records are new" in said(0, "import", few)
    told = said(2, "import", many)
    assert "full" in told
    assert "Make room" in told
    assert "20 fact" in said(0, "status")

    fill(disk)
    for arguments in (("import", more), ("status",), ("policy", "--set", "least_cohort=4")):
        assert "Make room" in said(2, *arguments)
    make_room(disk)
    assert "20 fact" in said(0, "status")
    assert "5 records are new" in said(0, "import", more)
    with Vault.open(disk / "home", Passphrase(lambda _: WORDS)) as vault:
        vault.check()
        assert len(vault.records.all()) == 25


def test_no_vault_is_made_on_a_full_disk(disk: Path) -> None:
    fill(disk)
    with pytest.raises(InputError, match="Make room"):
        Vault.create(disk / "home", words())
    make_room(disk)
    Vault.create(disk / "home", words()).close()


def test_a_client_goes_on_when_it_cannot_note_its_status(disk: Path) -> None:
    import threading

    with Vault.create(disk / "home", words()) as vault:
        service = Service(vault, threading.Event())
        service.note(connected="yes")
        fill(disk)
        service.note(connected="no")
        assert notes_of(vault.folder)["connected"] == "yes"
        make_room(disk)
        service.note(last="well")
        assert notes_of(vault.folder)["connected"] == "no"
        assert not list(vault.folder.glob("status.[0-9]*"))


@dataclass(frozen=True, slots=True)
class Round:
    """A round of three devices that is about to be answered with updates."""

    victim: Device
    aggregator: Aggregator
    inboxes: Mapping[int, bytes]
    adapter: bytes

    def update(self) -> bytes:
        inbox = self.inboxes[self.victim.member]
        return participation.update(self.victim, SETTINGS, 1, inbox, self.adapter)


@contextmanager
def a_round(stores: list[Store]) -> Iterator[Round]:
    """The first store's device is the victim."""
    authority, devices = Ed25519PrivateKey.generate(), []
    for member, store in enumerate(stores, 1):
        key = Ed25519PrivateKey.generate()
        certificate = certify(authority, member, key.public_key())
        said = [Turn(f"tea or bread, day {n}?", f"tea {n}", None) for n in range(8)]
        identity = Identity(key, certificate, authority.public_key())
        devices.append(Device(member, said, [], store, identity))
    plan = adapter_plans(SETTINGS)[0]
    terms = round_terms(SETTINGS, plan.dimension, "run", 1, 0, len(devices), 0.0)
    aggregator = Aggregator(terms, authority.public_key())
    offer = terms.encode()
    adverts = {d.member: participation.advertise(d, SETTINGS, offer) for d in devices}
    roster = aggregator.roster(adverts)
    inboxes = aggregator.inboxes(
        {d.member: participation.share(d, 1, roster[d.member]) for d in devices}
    )
    start = Shared(plan, plan.initial(plan.sent))
    aggregator.bind(bytes.fromhex(start.digest()))
    yield Round(devices[0], aggregator, inboxes, encode_shared(start))


@pytest.mark.parametrize("pages", [0, 2, 4, 6, 8, 12, 16, 24])
def test_an_update_on_a_full_disk_is_charged_whole_or_not_at_all(
    disk: Path, tmp_path: Path, pages: int
) -> None:
    """It is sent only if it was charged and journalled; the less room, the sooner it fails."""
    with ExitStack() as stack:
        vault = stack.enter_context(Vault.create(disk / "home", words()))
        vault.records.add([record_of("fact", {"text": "kept"})], "notes")
        others = [Store.open(tmp_path / f"{n}.db") for n in range(2)]
        made = stack.enter_context(a_round([vault.store, *others]))
        fill(disk, pages * PAGE)
        try:
            sent = made.update()
        except InputError as error:
            assert "Make room" in str(error)
            sent = b""
        assert sent or pages < 24
        assert not sent or pages > 0
        check(vault, sent)
        make_room(disk)
        check(vault, sent)
        for other in others:
            other.close()
    with Vault.open(disk / "home", words()) as vault:
        vault.check()
        check(vault, sent)
        assert len(vault.records.all()) == 1


def check(vault: Vault, sent: bytes) -> None:
    charged = [entry.guarantee for entry in vault.store.ledger.entries()]
    assert charged in ([], ["record", "user"])
    journal = [one.what for one in vault.store.uploads()]
    assert journal == ["advertise", "share", *(["update"] if sent else [])]
    assert charged or not sent


def entry_of(number: int, shared: Shared) -> RoundEntry:
    return RoundEntry(number, "done", 5, 5, 0.1, shared.digest())


def test_a_round_that_was_given_room_is_published_on_a_full_disk(disk: Path) -> None:
    registry = Registry(disk / "server", PLAN)
    chance = np.random.default_rng(0)
    for number in (1, 2):
        registry.reserve(number)
        registry.reserve(number)
        fill(disk)
        vector, first, second = chance.normal(size=(3, PLAN.dimension)).astype(np.float32)
        shared = Shared(PLAN, vector)
        state = RuleState(number, first, second)
        registry.publish(entry_of(number, shared), shared, state, "00" * 32)
        adapter, found = Registry(disk / "server", PLAN).latest()
        assert adapter.digest() == shared.digest()
        assert np.array_equal(found.second, second)
        make_room(disk)
    used = sum(file.stat().st_blocks for file in disk.rglob("*") if file.is_file()) * 512
    assert used < 16 * PAGE  # what was reserved and not needed is free again


def test_without_room_no_round_is_half_published(disk: Path) -> None:
    registry = Registry(disk / "server", PLAN)
    shared = Shared(PLAN, np.ones(PLAN.dimension, np.float32))
    for left in range(0, 5 * PAGE, PAGE):
        fill(disk, left)
        with pytest.raises(OSError) as told:
            registry.reserve(1)
        assert told.value.errno == errno.ENOSPC
        try:
            registry.publish(
                entry_of(1, shared), shared, RuleState.fresh(PLAN.dimension), "00" * 32
            )
        except OSError as error:
            assert error.errno == errno.ENOSPC
            assert registry.rounds() == []
            assert registry.latest()[1].steps == 0
        else:
            assert left > 0
            assert registry.latest()[0].digest() == shared.digest()
        make_room(disk)
    assert len(registry.rounds()) == 1


def test_a_plan_on_a_full_disk_leaves_the_one_before(disk: Path) -> None:
    write_plan(disk, Plan(3))
    fill(disk)
    with pytest.raises(OSError):
        write_plan(disk, Plan(5))
    assert read_plan(disk) == Plan(3)
    assert not list(disk.glob("plan.json.*"))


@pytest.mark.long
def test_rounds_wait_for_room_and_nobody_is_charged_meanwhile(tmp_path: Path) -> None:
    settings = {"model": "tiny", "examples": 8, "rounds": 3, "layers": 0, "users": 3}
    federation = Federation(tmp_path, settings)
    with ExitStack() as stack:
        stack.callback(federation.end)
        with federation.explained():
            federation.build(3)
            disk = federation.place.federation
            shutil.copytree(disk, tmp_path / "copy")
            stack.enter_context(mounted(disk))
            shutil.copytree(tmp_path / "copy", disk, dirs_exist_ok=True)
            last = federation.ask(1)
            fill(disk)  # before a ServerApp is there; one that is there waits too
            said = "There is no room on the disk"
            wait_for(lambda: said in federation.log(), 120, "the line")
            assert federation.server("status")
            assert federation.done() == 0
            assert [person.charged() for person in federation.people] == [{}, {}, {}]
            make_room(disk)
            (outcome,) = federation.finish(last)
            assert (outcome.status, outcome.survivors) == ("done", 3)
            assert [person.charged() for person in federation.people] == [{1: 1}] * 3
            assert federation.log().count(said) == 1
            assert federation.attempts(1) == 1
            assert "Traceback" not in federation.log()
            assert federation.down() == 0


def test_a_process_that_makes_rounds_waits_for_room(
    disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its disk fills up between two rounds: nobody is asked until there is room."""
    made: list[int] = []

    def looked(_: float) -> None:
        assert made == [1]
        if caplog.text.count("round 2 waits") and (disk / "filler").exists():
            make_room(disk)

    def run_round(federation: Any, number: int, _: Any) -> tuple[RoundEntry, None]:
        made.append(number)
        shared = Shared(PLAN, np.full(PLAN.dimension, number, np.float32))
        entry = entry_of(number, shared)
        registry.publish(entry, shared, RuleState.fresh(PLAN.dimension), "00" * 32)
        if number == 1:
            fill(disk)
        return entry, None

    registry = Registry(disk / "server", PLAN)
    federation = SimpleNamespace(registry=registry, settings=Settings.of(rounds=2))
    monkeypatch.setattr("server.app.time", SimpleNamespace(sleep=looked, monotonic=lambda: 0.0))
    monkeypatch.setattr("server.app.wait_for_nodes", lambda *_: None)
    monkeypatch.setattr("server.app._pause", lambda *_: None)
    monkeypatch.setattr("server.app.run_round", run_round)
    write_plan(disk, Plan(2))
    app._rounds(federation, None, disk)  # type: ignore[arg-type]
    assert made == [1, 2]
    assert caplog.text.count("waits") == 1
    assert [entry.status for entry in registry.rounds()] == ["done", "done"]
