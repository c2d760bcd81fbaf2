"""A whole federation as people run it: what it makes, and what it survives."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployment import Federation, Person, wait_for

SETTINGS: dict[str, Any] = {
    "model": "tiny", "examples": 8, "rounds": 3, "layers": 0, "deadline_s": 120.0,
}  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Federation]:
    federation = Federation(tmp_path, SETTINGS | {"users": 3})
    try:
        with federation.explained():
            federation.build(3)
        yield federation
    finally:
        federation.end()


def test_three_devices_make_two_rounds(small: Federation) -> None:
    """Under DP, as the settings are by default; what it cost stands in each device's ledger."""
    outcomes = [(e.round, e.status, e.survivors) for e in small.make(2)]
    assert outcomes == [(1, "done", 3), (2, "done", 3)]
    for person in small.people:
        assert person.charged() == {1: 1, 2: 1}
        assert 0 < person.uploads()["record"]["epsilon"] <= 8
        assert f"member {person.member}" in person.run("status")
        assert "has ended" in person.run("stop")
    assert small.down() == 0
    assert small.leftovers() == []
