"""Sees to it that the rounds that were asked for are made, whatever process dies meanwhile.

Rounds are made by the ServerApp, which Flower starts for a run. When nobody makes rounds and some
are left, a new run is started; it goes on from the last published adapter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from common.config import Settings
from common.errors import PrivityError
from server.flower import Control
from server.hold import on_hold
from server.plan import last_asked, maker_of_rounds, read_plan, rounds_done

PATIENCE_S = 20.0  # for a run to be taken up, and for one whose maker died to be noticed
ALIVE = ("pending", "starting", "running")
Tell = Callable[[str], None]


@dataclass(slots=True)
class Conductor:
    """Call `tend` again and again."""

    folder: Path
    control: Control
    settings: Callable[[], Settings]
    tell: Tell
    _run: int | None = None
    _idle_since: float = field(default_factory=time.monotonic)

    def tend(self) -> None:
        """Start a run if one is wanted and none is being made.

        Raises:
            PrivityError: The SuperLink does not answer, or the registry is damaged.
            InputError: The settings are wrong.
        """
        asked, done = read_plan(self.folder), rounds_done(self.folder)
        settings = self.settings()
        enough = done >= last_asked(self.folder, settings.rounds)
        if not asked or enough or on_hold(self.folder):
            self._idle_since = time.monotonic()
            return
        if maker_of_rounds(self.folder) is not None:
            self._idle_since = time.monotonic()
            return
        if self._run is None or self._overdue():
            self._begin(settings, done)

    def _overdue(self) -> bool:
        assert self._run is not None
        if not self.control.status(self._run).startswith(ALIVE):
            return True
        return time.monotonic() - self._idle_since > PATIENCE_S

    def _begin(self, settings: Settings, done: int) -> None:
        self.end()
        self._run = self.control.start(settings)
        self._idle_since = time.monotonic()
        self.tell(f"round {done + 1} is next; started Flower run {self._run}")

    def end(self) -> None:
        """Stop the run that was started last, if it still goes on."""
        if self._run is not None:
            try:
                if self.control.status(self._run).startswith(ALIVE):
                    self.control.stop(self._run)
            except PrivityError:
                pass
            self._run = None
