"""An operator's folder full of fabricated rounds and devices: nothing in it was measured."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.adapter.plan import AdapterPlan, Site
from common.adapter.weights import Shared
from server.deployment import figures
from server.deployment.place import Place, create
from server.registry.goal import Plan, write_plan
from server.registry.provenance import Guarantee, Spending
from server.registry.registry import Registry, RoundEntry, RuleState

PLAN = AdapterPlan("toy", (Site("layer", 3, 4),), 2, 2.0, 0, "ffa")
PARTS = ("superlink", "superexec", "gateway", "dashboard")


def federation(
    folder: Path,
    *,
    name: str = "Made-up federation",
    rounds: int = 14,
    abandoned: tuple[int, ...] = (5,),
    rolled_back: dict[int, int] | None = None,
    user: bool = True,
    record: bool = True,
    devices: int = 23,
    seed: int = 0,
) -> Place:
    """A place as a running `up` leaves it.

    Args:
        rolled_back: After which round to which version.
    """
    place, chance = create(folder, name=name), random.Random(seed)
    registry = Registry(place.federation / "server", PLAN)
    for number in range(1, rounds + 1):
        share = number / 20
        registry.note_spent(
            Spending(
                Guarantee(8 * share**0.6, 1e-5, 8.0) if record else None,
                Guarantee(6 * share**0.6, 1e-5, 6.0) if user else None,
            )
        )
        _round(registry, number, number in abandoned, chance)
        if to := (rolled_back or {}).get(number):
            registry.roll_back(to)
    write_plan(place.federation, Plan(20))
    settings = place.settings_file.read_text()
    place.settings_file.write_text(settings.replace("\nrounds = 3\n", "\nrounds = 20\n"))
    _devices(place, devices)
    running(place)
    refusals = {"unknown path": 41, "unknown key": 3, "TLS handshake failed": 12}
    gateway = {"connections": devices - 3, "answers": {}, "refusals": refusals}
    figures.keep(place.log / figures.GATEWAY, gateway)
    return place


def running(place: Place, *, dead: tuple[str, ...] = (), restarts: int = 0) -> None:
    """What `up` notes about its processes."""
    parts = {
        name: {"pid": None if name in dead else 4711, "restarts": restarts if name in dead else 0}
        for name in PARTS
    }
    figures.keep(place.log / figures.PARTS, parts)


def _round(registry: Registry, number: int, lost: bool, chance: random.Random) -> None:
    parent = registry.latest()[0]
    vector = (parent.vector + chance.gauss(0, 0.1)).astype(np.float32)
    following, cohort = Shared(registry.plan, vector), chance.randint(17, 20)
    entry = RoundEntry(
        number, "done", cohort, cohort - chance.choice((0, 0, 1, 3)), 40 + 30 * chance.random(),
        following.digest(),
    )  # fmt: skip
    if lost:
        digest = parent.digest()
        registry.abandon(replace(entry, status="abandoned", survivors=0, adapter_sha256=digest))
    else:
        state = RuleState.fresh(registry.plan.dimension)
        registry.publish(entry, following, state, parent.digest())


def _devices(place: Place, count: int) -> None:
    """Members 1 to `count`, and three who are gone, straight into the database."""
    import sqlite3

    gone = ((101, "revoked"), (102, "left"), (103, "revoked"))
    rows = [(member, None) for member in range(1, count + 1)] + list(gone)
    with sqlite3.connect(place.enrolment_file) as db:
        for member, why in rows:
            key = member.to_bytes(32, "big")
            at = 1_700_000_000 if why else None
            db.execute(
                "INSERT INTO devices (member, device_key, node_key, certificate, enrolled_at,"
                " gone_at, gone_why) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (str(member), key, key, b"made up", 1_700_000_000, at, why),
            )
    db.close()
