"""Real TLS on loopback; a gateway for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_world import USUAL, Opener, Stub, World

from server.deployment import place
from server.enrolment.enrolment import Enrolment
from server.gateway import connection as connection_module
from server.gateway.limits import Limits


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "LINGER_S", 0.5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> place.Place:
    return place.create(tmp_path_factory.mktemp("place") / "ours", name="Ours")


@pytest.fixture
def open_world(made: place.Place, tmp_path: Path) -> Iterator[Opener]:
    opened: list[World] = []

    def start(limits: Limits = USUAL) -> World:
        enrolment = Enrolment(tmp_path / f"enrolment{len(opened)}.db")
        opened.append(World(made, Stub(made), enrolment, limits))
        return opened[-1]

    yield start
    for world in opened:
        world.close()
        world.stub.close()


@pytest.fixture
def world(open_world: Opener) -> World:
    return open_world()
