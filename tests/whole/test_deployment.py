"""A whole federation as people run it: what it makes, and what it survives."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployment import ANSWERS, MODEL, SECRETS, Federation, status, wait_for, write_diary, zombies

from server.registry.registry import RoundEntry

SETTINGS: dict[str, Any] = {
    "model": MODEL, "examples": 8, "rounds": 3, "layers": 0, "deadline_s": 120.0,
}  # fmt: skip

# Without noise and with every example in every step nothing in an update is left to chance.
PLAIN: dict[str, Any] = SETTINGS | {
    "users": 5, "rounds": 60, "dp": False, "rank": 4, "modules": "q_proj,v_proj,down_proj",
    "optimizer": "adamw", "local_steps": 4, "learning_rate": 2.5e-2, "update_range": 0.5,
    "sample_rate": 1.0, "rule": "fedavg", "server_rate": 1.0,
}  # fmt: skip
COMPARED = 2  # rounds that a simulation makes too
SHORT_S = 12.0  # deadline of a stage where somebody is known not to answer
LEGS = ("advertise", "share", "update", "confirm", "reveal")
long = pytest.mark.long


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Federation]:
    federation = Federation(tmp_path, SETTINGS | {"users": 3})
    try:
        with federation.explained():
            federation.build(3)
        yield federation
    finally:
        federation.end()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    federation = Federation(tmp_path_factory.mktemp("federation"), PLAIN)
    try:
        with federation.explained():
            federation.build(5)
        yield federation
    finally:
        federation.end()


@pytest.fixture
def five(shared: Federation) -> Iterator[Federation]:
    """One federation of five for all tests; each finds everybody there, and nothing asked for."""
    with shared.explained():
        for person in shared.people:
            if person.process() is None:
                person.start()
        for person in shared.people:
            wait_for(person.connected, 120, "a client's connection")
        yield shared
        check_nothing_was_lost(shared)


def check_nothing_was_lost(federation: Federation) -> None:
    """Every round has one outcome, and every update that was summed was charged before."""
    outcomes = federation.entries()
    made = [entry.round for entry in outcomes if entry.charged]
    assert made == list(range(1, len(made) + 1))
    charged = [person.charged() for person in (*federation.people, *federation.gone)]
    for entry in outcomes:
        assert entry.status in ("done", "abandoned")
        assert entry.survivors <= sum(entry.round in one for one in charged), entry
    for person in federation.people:
        with person.vault() as vault:
            charges = {(e.run, e.round, e.attempt) for e in vault.store.ledger.entries()}
            updates = {
                (u.run, u.round, u.attempt)
                for u in vault.store.uploads()
                if u.what.startswith("update")
            }
        assert updates <= charges


def simulated(federation: Federation, out: Path) -> dict[str, Any]:
    """The report of the same people under the same settings in `privity-sim run`."""
    import torch

    from simulations.cli import main

    torch.set_num_threads(1)
    options = ["run", "--data", str(federation.folder / "people"), "--quiet", "--out", str(out)]
    seed = federation.place.run().rounds.seed
    for name, value in (federation.settings | {"rounds": COMPARED, "seed": seed}).items():
        flag = "--" + name.replace("_", "-")
        options += ["--no-dp"] if name == "dp" else [flag, str(value)]
    assert main(options) == 0
    return dict(json.loads((out / "report.json").read_text()))


def test_three_devices_make_two_rounds(small: Federation) -> None:
    """Under DP, as the settings are by default; what it cost stands in each device's ledger."""
    outcomes = [(e.round, e.status, e.survivors) for e in small.make(2)]
    assert outcomes == [(1, "done", 3), (2, "done", 3)]
    for person in small.people:
        assert person.charged() == {1: 1, 2: 1}
        uploads = person.uploads()
        assert 0 < uploads["record"]["epsilon"] <= 8
        assert uploads["uploads"][0]["what"] == "enrol"
        assert f"member {person.member}" in person.run("status")
        assert "has ended" in person.run("stop")
    assert small.down() == 0
    assert small.leftovers() == []


@long
def test_what_it_publishes_is_what_a_simulation_publishes(five: Federation, tmp_path: Path) -> None:
    """Bit for bit, so that the tolerance is nothing.

    Members, keys, masks and the order of answers differ. But an update depends on the data and
    the published adapter alone, each is rounded to integers on its device, and sums of integers
    have no order. Both sides train on one thread: with several, sums of floats may differ in their
    last bit.
    """
    there = [entry.adapter_sha256 for entry in five.make(COMPARED)]
    report = simulated(five, tmp_path / "simulated")
    here = [entry["adapter_sha256"] for entry in report["rounds_log"]]
    assert there == here
    before, after = held_out(five)
    for person, (old, new) in enumerate(zip(before, after, strict=True)):
        assert new < old, f"person {person}: {old} → {new} nats a token"


def held_out(federation: Federation) -> tuple[list[float], list[float]]:
    """Everybody's held-out loss before and with the adapter that is published now, nats a token."""
    from client.federation.examples import sets_key
    from common.adapter import lora
    from common.adapter.plan import BOTH
    from common.learning.backbone import adapter_plans, backbone_for
    from common.tasks.chat import turns
    from common.tasks.sets import chosen
    from server.registry.registry import Registry

    settings = federation.place.run()
    plan, backbone = adapter_plans(settings)[0], backbone_for(settings)
    published, _ = Registry(federation.place.federation / "server", plan).latest()
    lora.write(backbone.model, lora.SHARED, plan, BOTH, plan.initial(BOTH))
    lora.write(backbone.model, lora.SHARED, plan, plan.sent, published.vector)
    before, after = [], []
    for person in federation.people:
        with person.vault() as vault:
            said, key = turns(vault.records.all()), sets_key(vault.store)
            unseen = backbone.prepared(chosen(said, key, settings.rounds.examples)[1])
        with lora.active(backbone.model):
            before.append(backbone.score(unseen).metrics()["nll"])
        with lora.active(backbone.model, lora.SHARED):
            after.append(backbone.score(unseen).metrics()["nll"])
    return before, after


# Where a client dies; whether its update was sent, and whether it was charged for it.
DEATHS = [
    ("before advertise", False, False),
    ("after share", False, False),
    ("before update", False, False),
    ("charged update", False, True),
    ("after update", False, True),
    ("sent update", True, True),
    ("before confirm", True, True),
    ("after confirm", True, True),
    ("before reveal", True, True),
    ("sent reveal", True, True),
]


@long
@pytest.mark.parametrize("number", range(len(DEATHS)), ids=[death[0] for death in DEATHS])
def test_a_client_may_die_anywhere(five: Federation, number: int) -> None:
    place, sent, charged = DEATHS[number]
    victim = five.people[number % len(five.people)]
    five.set({"deadline_s": SHORT_S})
    victim.order(*place.split())
    outcome = five.make()[-1]
    wait_for(lambda: victim.process() is None, 30, "the client's death")
    assert outcome.status in ("done", "abandoned")
    if outcome.status == "done":
        assert outcome.survivors == (5 if sent else 4)
    assert (victim.charged().get(outcome.round, 0) > 0) == charged
    # that it comes back is for the next test to show, which misses nobody but its own victim


@long
@pytest.mark.parametrize("part", ["maker", "superlink", "superexec", "gateway", "up"])
def test_a_server_process_may_die(five: Federation, part: str) -> None:
    """In the middle of the first of two rounds, once six devices' answers were there.

    That nobody was lost by it is for `test_everybody_is_back` to show.
    """
    five.set({"deadline_s": SHORT_S})
    answers, last = five.answers(), five.ask(2)
    wait_for(lambda: five.answers() >= answers + 6, 120, "six answers")
    begun = five.done()
    if part == "up":
        five.kill_up()
        time.sleep(1)
        five.up()
    else:
        os.kill(five.maker() if part == "maker" else five.part(part), signal.SIGKILL)
    outcomes = five.finish(last)
    assert len(outcomes) == last
    assert all(one.status == "done" for one in outcomes[begun + 1 :]), outcomes[begun:]


@long
def test_everybody_is_back(five: Federation) -> None:
    """After all those deaths, of clients and of the server's processes."""
    outcome = comes_back(five)
    assert all(person.charged()[outcome.round] == 1 for person in five.people)


def comes_back(federation: Federation) -> RoundEntry:
    """A round with everybody."""
    federation.set({"deadline_s": SETTINGS["deadline_s"]})
    outcome = federation.make()[-1]
    assert (outcome.status, outcome.survivors) == ("done", 5)
    return outcome


@long
def test_the_network_may_go_away(five: Federation) -> None:
    """The gateway does not answer for eight seconds; the round that goes on has everybody."""
    answers, last = five.answers(), five.ask(1)
    wait_for(lambda: five.answers() >= answers + 6, 120, "six answers")
    gateway = five.part("gateway")
    os.kill(gateway, signal.SIGSTOP)
    time.sleep(8)
    os.kill(gateway, signal.SIGCONT)
    outcome = five.finish(last)[-1]
    assert (outcome.status, outcome.survivors) == ("done", 5)


@long
@pytest.mark.parametrize("place", ["lost update", "unsent confirm"])
def test_a_link_may_be_cut_anywhere(five: Federation, place: str) -> None:
    """What was asked, or the answer, gets lost: the device is asked once more, nobody is missed."""
    victim = five.people[1]
    victim.order(*place.split())
    outcome = five.make()[-1]
    assert (outcome.status, outcome.survivors) == ("done", 5)
    assert outcome.seconds < SETTINGS["deadline_s"]
    assert victim.charged()[outcome.round] == 1
    with victim.vault() as vault:
        what = [u.what for u in vault.store.uploads() if u.round == outcome.round]
    leg = place.split()[1]
    assert what.count(leg) == 1
    assert what.count(f"{leg} again") == place.startswith("unsent")


@long
def test_a_clock_that_is_wrong_is_said(five: Federation) -> None:
    """Flower takes signatures that are five minutes old, but only five seconds ahead."""
    person = five.people[0]
    person.run("stop")
    person.start(PRIVITY_TEST_SKEW_S="-120")
    wait_for(person.connected, 120, "a client that is late")
    person.run("stop")
    person.start(PRIVITY_TEST_SKEW_S="3600")
    wait_for(lambda: "clock" in str(person.notes()) + person.tail(), 120, "the reason")
    assert not person.connected()


@long
def test_a_second_client_on_one_vault_is_refused(five: Federation) -> None:
    person = five.people[0]
    process = person.process()
    for command in (["start"], ["start", "--foreground"], ["leave"]):
        said = person.run(*command, code=2)
        assert "in use by process" in said
        assert str(process) in said
    assert person.process() == process


@long
def test_one_who_declines_is_left_out(five: Federation) -> None:
    """Below its own policy a device says no, and says why to its person alone."""
    person, others = five.people[1], [five.people[0], *five.people[2:]]
    person.run("policy", "--set", "least_cohort=8")
    outcome = five.make()[-1]
    assert (outcome.status, outcome.survivors) == ("done", 4)
    assert outcome.round not in person.charged()
    said = person.run("status")
    assert "The sum could be of 4 devices only, fewer than 8." in said
    assert "DeclinedError" in five.log()
    assert "fewer than" not in five.log()
    for other in others:
        assert "declined" not in other.notes()
    person.run("policy", "--set", "least_cohort=3")  # the next test's round has them again


@long
def test_what_is_imported_while_a_client_runs_is_learnt_from_in_the_next_round(
    five: Federation,
) -> None:
    person, more = five.people[0], five.folder / "more.jsonl"
    write_diary(more, 0, 20)  # ten of them are known already
    assert "records" in person.run("import", str(more))
    more.unlink()
    outcome = five.make()[-1]
    assert (outcome.status, outcome.survivors) == ("done", 5)
    with person.vault() as vault:
        query = "SELECT COUNT(DISTINCT data) FROM releases WHERE guarantee = 'record'"
        assert vault.store._db.execute(query).fetchone() == (2,)


@long
def test_another_bundle_is_refused_by_everybody(
    five: Federation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A server that wants its own code run gets no answer; its code runs nowhere."""
    from flwr.cli.build import build_fab_from_files

    from common.rounds.bundle import manifest
    from common.settings import from_mapping
    from server.deployment import superlink
    from server.registry.goal import Plan, making_rounds, write_plan

    mark = tmp_path / "ran"
    code = f"open({str(mark)!r}, 'w')\nfrom client.app import app\n"
    names = manifest(from_mapping({})).replace("client.app:app", "theirs:app")
    files = {"pyproject.toml": names.encode(), "theirs.py": code.encode()}
    packed, _ = build_fab_from_files(files)
    digest = hashlib.sha256(packed).hexdigest()
    monkeypatch.setattr(superlink, "bundle", lambda: packed)
    monkeypatch.setattr(superlink, "bundle_hash", lambda: digest)

    last, charged = five.done() + 1, [person.charged() for person in five.people]
    control = superlink.Control(superlink.flower_place(five.place))
    with making_rounds(five.place.federation):  # the conductor starts no run of its own
        write_plan(five.place.federation, Plan(last))
        run = control.start(five.place.run())
        wait_for(lambda: control.status(run).startswith("running"), 120, "the malicious run")
        wait_for(lambda: waiting_for(five), 120, "a process that waits to make rounds")
    outcome = five.finish(last)[-1]
    control.close()
    assert (outcome.status, outcome.survivors) == ("abandoned", 0)
    assert [person.charged() for person in five.people] == charged
    assert "5 devices refused: UnknownBundle" in five.log()
    for person in five.people:
        assert f"refused run {run}: its bundle is not this version's" in person.run("status")
    assert not mark.exists()
    comes_back(five)


def waiting_for(federation: Federation) -> bool:
    """Whether some process waits for the lock of those who make rounds."""
    inode = str((federation.place.federation / "rounds.lock").stat().st_ino)
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return any(line[1] == "->" and line[6].endswith(f":{inode}") for line in locks)


@long
def test_who_leaves_and_who_is_revoked(five: Federation) -> None:
    """The last test of the five: two of them are gone afterwards."""
    leaver, revoked = five.people[3], five.people[4]
    leaver.run("stop")
    assert "has left" in leaver.run("leave")
    assert "in no federation" in leaver.run("start", code=2)
    assert leaver.uploads()["uploads"][-1]["what"] == "leave"
    five.server("revoke", str(revoked.member))
    wait_for(lambda: revoked.process() is None, 60, "the end of who was revoked")
    assert "refuses this device" in revoked.tail()
    revoked.start()
    wait_for(lambda: revoked.process() is None, 60, "the end of who was revoked")
    table = five.server("devices").splitlines()
    for person, word in ((leaver, "left"), (revoked, "revoked"), (five.people[0], "online")):
        (line,) = (line for line in table if str(person.member) in line)
        assert word in line
    for person in (leaver, revoked):
        with person.vault() as vault:
            assert vault.store.ledger.entries()
        five.people.remove(person)
        five.gone.append(person)


@long
def test_nothing_stays_behind(shared: Federation) -> None:
    """No process of ours, and nothing that anybody said, in any file outside the vaults."""
    assert shared._up
    assert [status(process) for process in zombies(shared._up.pid)] == []
    for person in shared.people:
        if person.process():
            person.run("stop")
    with shared.explained():
        assert shared.down() == 0
    assert shared.leftovers() == []
    people = shared.folder / "people"
    for file in shared.folder.rglob("*"):
        if file.is_file() and people not in file.parents:
            content = file.read_bytes()
            for words in (*ANSWERS, *SECRETS):
                assert words.encode() not in content, f"{words!r} in {file}"
    for log in (shared.log(), (shared.folder / "up.log").read_text()):
        assert "Traceback" not in log
