"""How the federation is at this moment, from what its processes left on disk and the SuperLink."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import PrivityError
from common.rounds.outcomes import DONE
from server.deployment import figures
from server.deployment.place import Place
from server.registry import registry
from server.registry.evaluations import Evaluation
from server.registry.goal import last_asked, read_plan, round_under_way
from server.registry.provenance import Provenance, Spending, utc_now
from server.registry.registry import Rollback, RoundEntry
from server.round.hold import Hold, on_hold

NEEDED = ("superlink", "superexec", "gateway")  # for rounds
FRESH_S = 1.0  # for so long an answer is given again
Online = Callable[[], Sequence[int]]


@dataclass(frozen=True, slots=True)
class PartFigures:
    """A process of the deployment."""

    running: bool
    restarts: int


@dataclass(frozen=True, slots=True)
class Devices:
    """How many devices there are; `online` is None while the SuperLink does not answer."""

    enrolled: int
    online: int | None
    revoked: int
    left: int


@dataclass(frozen=True, slots=True)
class GatewayFigures:
    """Open connections, and refusals by reason since it was started last."""

    connections: int
    refusals: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the dashboard shows.

    Attributes:
        at: UTC, ISO 8601.
        planned: Rounds in all, by the settings.
        rounds: All outcomes, those that nobody was charged for among them.
        asked: Number of the last round that was asked for.
        current: The version from which the next round starts.
        origins: Provenance of the published adapters, by round.
        spent: None before the first round.
        gateway: None while it does not run.
        evaluations: What finished rounds found of the versions, in order.
        hold: Why no rounds are made, if an evaluation is the reason.
    """

    name: str
    at: str
    rounds: Sequence[RoundEntry]
    planned: int
    asked: int | None
    under_way: bool
    current: int
    origins: Mapping[int, Provenance]
    rollbacks: Sequence[Rollback]
    spent: Spending | None
    devices: Devices
    gateway: GatewayFigures | None
    parts: Mapping[str, PartFigures]
    evaluations: Sequence[Evaluation] = ()
    hold: Hold | None = None

    @property
    def made(self) -> int:
        """How many rounds have happened: an outcome that nobody was charged for is none."""
        return sum(entry.charged for entry in self.rounds)

    @property
    def done(self) -> list[RoundEntry]:
        """The rounds that published a version."""
        return [entry for entry in self.rounds if entry.status == DONE]

    @property
    def missing(self) -> list[str]:
        """What is needed for rounds and does not run or answer."""
        dead = [one for one in NEEDED if one not in self.parts or not self.parts[one].running]
        silent = self.devices.online is None and "superlink" not in dead
        return dead + ["an answer of the superlink"] * silent


class Observer:
    """Looks at an operator's folder, at most once a second however many ask.

    Args:
        online: Ids of the connected nodes; raises PrivityError when the SuperLink is silent.
        clock: Seconds, never set back.
    """

    def __init__(
        self, place: Place, online: Online, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._place, self._online, self._clock = place, online, clock
        self._settings, self._enrolment = place.settings(), place.enrolment()
        self._lock = threading.Lock()
        self._seen: tuple[float, Situation] | None = None

    def look(self) -> Situation:
        """How it is now.

        Raises:
            PrivityError: The registry is damaged.
        """
        with self._lock:
            if self._seen is None or self._clock() - self._seen[0] > FRESH_S:
                self._seen = self._clock(), self._look()
            return self._seen[1]

    def _look(self) -> Situation:
        folder = self._place.federation
        place = folder / "server"
        parts = self._parts()
        return Situation(
            name=self._settings.federation.name,
            at=utc_now(),
            rounds=registry.history(place),
            planned=self._settings.run.rounds.count,
            asked=last_asked(folder, self._settings.run.rounds.count)
            if read_plan(folder)
            else None,
            under_way=round_under_way(folder),
            current=registry.current(place),
            origins=registry.provenances(place),
            rollbacks=registry.rollbacks(place),
            spent=registry.spent(place),
            devices=self._devices(),
            gateway=self._gateway() if "gateway" in parts and parts["gateway"].running else None,
            parts=parts,
            evaluations=registry.evaluations(place),
            hold=on_hold(folder),
        )

    def _devices(self) -> Devices:
        known = self._enrolment.devices()
        why = [one.gone_why for one in known]
        members = {one.member for one in known if one.gone_why is None}
        try:
            online: int | None = len(members.intersection(self._online()))
        except PrivityError:
            online = None
        return Devices(why.count(None), online, why.count("revoked"), why.count("left"))

    def _gateway(self) -> GatewayFigures:
        found: dict[str, Any] = figures.read(self._place.log / figures.GATEWAY)
        return GatewayFigures(int(found.get("connections", 0)), dict(found.get("refusals", {})))

    def _parts(self) -> dict[str, PartFigures]:
        found = figures.read(self._place.log / figures.PARTS)
        return {name: PartFigures(bool(one["pid"]), one["restarts"]) for name, one in found.items()}
