"""A server and three clients on hosts of their own, all of whose packets are watched."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from deployment import Federation, wait_for, write_diary
from hosts import (
    NOWHERE,
    NOWHERE6,
    TCP,
    UDP,
    Host,
    Network,
    answers,
    listening,
    missing,
    network,
    send,
    unconnected,
)

PEOPLE, AWAY_S = 3, 6.0
SETTINGS = {
    "model": "tiny", "examples": 16, "rounds": 3, "layers": 0, "deadline_s": 120.0, "users": PEOPLE,
}  # fmt: skip
LOOK_UP = "import urllib.request as web; web.urlopen('http://{name}/', timeout=1)"
NOT_HERE = missing()
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(NOT_HERE), reason=f"hosts of their own: {NOT_HERE}"),
]


@dataclass(frozen=True, slots=True)
class Hosts:
    """The federation, and the network it is on."""

    network: Network
    federation: Federation

    @property
    def server(self) -> Host:
        return self.network.hosts[0]

    @property
    def people(self) -> list[Host]:
        return self.network.hosts[1:]

    def up(self) -> int:
        """The process of `up`, on the server's host."""
        assert self.federation._up
        return self.federation._up.pid


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with network(1 + PEOPLE) as made:
        server, *people = made.hosts
        federation = Federation(
            tmp_path_factory.mktemp("hosts"), SETTINGS, address=server.address,
            inside=server.inside, places=[host.inside for host in people],
        )  # fmt: skip
        try:
            with federation.explained():
                federation.build(PEOPLE)
            yield Hosts(made, federation)
        finally:
            federation.end()


def test_a_round_has_everybody(hosts: Hosts) -> None:
    server, federation = hosts.server, hosts.federation
    for person, host in zip(federation.people, hosts.people, strict=True):
        process = person.process()
        assert process
        assert Path(f"/proc/{process}/ns/net").samefile(f"/run/netns/{host.name}")
        assert f"https://{server.address}:" in person.run("status")
    (outcome,) = federation.make()
    assert (outcome.status, outcome.survivors) == ("done", PEOPLE)
    assert all(person.charged() == {1: 1} for person in federation.people)


def test_nothing_but_the_gateways_port_answers(hosts: Hosts) -> None:
    """All 65535 ports of the server's address, from a client's host, on IPv4 and IPv6."""
    settings = hosts.federation.place.settings()
    gateway, loopback = settings.gateway.port, {settings.gateway.superlink_port}
    loopback |= {settings.dashboard.port}
    there = listening(hosts.up())
    assert {port for _, port in there} >= loopback | {gateway}, there
    assert {port for address, port in there if not address.startswith("127.")} == {gateway}
    assert unconnected(hosts.up()) == set()
    for port in loopback:
        assert hosts.server.do(lambda port=port: answers("127.0.0.1", port))

    def found(address: str) -> list[int]:
        return [port for port in range(1, 65536) if answers(address, port)]

    assert hosts.people[0].do(lambda: found(hosts.server.address)) == [gateway]
    assert hosts.people[0].do(lambda: found("fd77::2")) == []


def test_a_client_listens_on_nothing(hosts: Hosts) -> None:
    for person in hosts.federation.people:
        process = person.process()
        assert process
        assert listening(process) == set()
        assert unconnected(process) == set()


def test_a_cable_that_is_pulled_loses_nothing(hosts: Hosts) -> None:
    """A client's host has no link for some seconds, once two answers of the round were there."""
    federation, host = hosts.federation, hosts.people[1]
    before, last = federation.answers(), federation.ask(1)
    wait_for(lambda: federation.answers() >= before + 2, 120, "two answers")
    hosts.network.cable(host, "down")
    assert not host.do(
        lambda: answers(hosts.server.address, federation.place.settings().gateway.port, 1.0)
    )
    time.sleep(AWAY_S)
    assert federation.done() < last  # it waits
    hosts.network.cable(host, "up")
    outcome = federation.finish(last)[-1]
    assert (outcome.round, outcome.status, outcome.survivors) == (2, "done", PEOPLE)
    assert all(person.charged() == {1: 1, 2: 1} for person in federation.people)


def test_nobody_looks_outside(hosts: Hosts) -> None:
    """The last: from `init` to `leave`, not one name was asked for and nothing sent elsewhere.

    That the watcher would have seen it is shown afterwards, from each of the hosts.
    """
    federation, watcher = hosts.federation, hosts.network.watcher
    for person in federation.people:
        person.run("stop")
    person, more = federation.people[0], federation.folder / "more.jsonl"
    write_diary(more, PEOPLE, 20)
    person.run("import", str(more))
    assert "held-out answers" in person.run("train")
    said = person.run("chat", typed="What shall we do today?\n")
    assert "goes nowhere" in said
    federation.server("export", "latest", str(federation.folder / "exported"))
    federation.server("status")
    assert "has left" in person.run("leave")
    assert federation.down() == 0
    assert federation.leftovers() == []
    assert watcher.asked == []
    assert watcher.sent == set()
    assert watcher.missed() == 0

    for number, host in enumerate(hosts.network.hosts):
        name = f"host{number}.example.org"
        command = [*host.inside, sys.executable, "-c", LOOK_UP.format(name=name)]
        assert subprocess.run(command, capture_output=True).returncode == 1
        assert (host.address, name) in watcher.asked
        seen = {
            (protocol, port) for source, _, protocol, port in watcher.sent if source == host.address
        }
        assert seen == {(UDP, 53), (TCP, 80)}
        assert (host.address, NOWHERE, TCP, 80) in watcher.sent
        host.do(lambda: send(NOWHERE6, 443))
        wait_for(
            lambda host=host: (host.address6, NOWHERE6, UDP, 443) in watcher.sent, 10, "a packet"
        )
