"""Sees to it that the rounds that were asked for are made, whatever process dies meanwhile.

Rounds are made by the ServerApp, which Flower starts for a run. When nobody makes rounds and some
are left, a new run is started; it goes on from the last published adapter.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from common.errors import PrivityError
from common.rounds.run_folder import FEDERATION
from common.settings import Settings
from server.deployment.superlink import Control
from server.registry.goal import last_asked, left_unspent, maker_of_rounds, read_plan, rounds_done
from server.round.hold import on_hold

PATIENCE_S = 20.0  # for a run to be taken up, and for one whose maker died to be noticed
SLOW_S = 60.0  # then whoever waits is told that a ServerApp is starting still
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0  # before a run in place of one that made no round
SERVER_APP = "flwr-serverapp"
ALIVE = ("pending", "starting", "running")
Tell = Callable[[str], None]


@dataclass(slots=True)
class Conductor:
    """Call `tend` again and again.

    Attributes:
        lives: Whether the ServerApp's process is there. However slow it is, it is waited for.
        why: Why no round is being made that was asked for; empty where there is no such reason.
        last_words: Of the ServerApp that failed last, from the rounds' own log.
    """

    folder: Path
    control: Control
    settings: Callable[[], Settings]
    tell: Tell
    lives: Callable[[Path], bool] = field(default_factory=lambda: server_app_lives)
    clock: Callable[[], float] = time.monotonic
    why: str = ""
    last_words: str = ""
    _run: int | None = None
    _idle_since: float = 0.0
    _begun: float = 0.0
    _outcomes: int = 0  # of attempts at rounds, when a run was started last
    _pause_s: float = 0.0
    _again_at: float | None = None

    def __post_init__(self) -> None:
        self._idle_since = self.clock()

    def tend(self) -> None:
        """Start a run if one is wanted and none is being made.

        Raises:
            PrivityError: The SuperLink does not answer, or the registry is damaged.
            InputError: The settings are wrong.
        """
        asked, done = read_plan(self.folder), rounds_done(self.folder)
        settings, outcomes = self.settings(), done + left_unspent(self.folder)
        enough = done >= last_asked(self.folder, settings.rounds.count)
        if not asked or enough or on_hold(self.folder):
            self._all_is_well()
            self._forget_if_over()
            return
        if maker_of_rounds(self.folder) is not None:
            self._all_is_well()
            return
        if outcomes > self._outcomes:
            self._pause_s = 0.0
        if self._run is None or (self._over(self._run) and self._rested()):
            self._outcomes = outcomes
            self._begin(settings, done)

    def _all_is_well(self) -> None:
        """Whether no round is wanted, or a process is making it."""
        self._idle_since, self.why, self._again_at = self.clock(), "", None

    def _forget_if_over(self) -> None:
        """A run that has made all that was asked for is no reason to wait before the next."""
        if self._run is not None and not self.control.status(self._run).startswith(ALIVE):
            self._run, self._pause_s = None, 0.0

    def _over(self, run: int) -> bool:
        """Whether nobody makes rounds for a run any more, or ever will; `why` says so."""
        status = self.control.status(run)
        if not status.startswith(ALIVE):
            self.why = self.last_words or f"Flower run {run} ended as {status}."
            return True
        if self.lives(self.folder):
            self._idle_since = self.clock()
            if self.clock() - self._begun > SLOW_S:
                self.why = f"The ServerApp of Flower run {run} is starting still. It is waited for."
            return False
        if self.clock() - self._idle_since <= PATIENCE_S:
            return False
        self.why = f"Nobody makes rounds for Flower run {run}: its ServerApp did not start or died."
        return True

    def _rested(self) -> bool:
        """Whether it is time for another run: later each time that one makes no round."""
        if self._again_at is None:
            self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            self._again_at = self.clock() + self._pause_s
            self.tell(f"{self.why} Another is started in {self._pause_s:.0f} s")
        return self.clock() >= self._again_at

    def _begin(self, settings: Settings, done: int) -> None:
        self.end()
        self._run = self.control.start(settings)
        self._idle_since = self._begun = self.clock()
        self._again_at, self.last_words = None, ""
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


def server_app_lives(folder: Path) -> bool:
    """Whether a process of a ServerApp is there for the federation in `folder`."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            called = any(SERVER_APP in word for word in process.cmdline()[:2])
            if called and process.environ().get(FEDERATION) == str(folder):
                return True
    return False
