"""`run`: ask for rounds and watch them."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.console.say import say, say_aside
from common.rounds.outcomes import ABANDONED, HELD
from server.commands import place_of, with_folder

if TYPE_CHECKING:
    from server.registry.registry import RoundEntry

LOOK_S = 0.2
LEAST_DIMENSION = 1  # the model is not looked for here; when rounds begin its own is checked
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_DAYS = 366


def add(commands: Any) -> None:
    """Put it on the command line."""
    parser = with_folder(commands.add_parser("run", help="make rounds, under privity.toml's terms"))
    parser.add_argument(
        "--rounds", type=int, default=None, help="how many (default: all that are left)"
    )
    parser.add_argument("--every", default="", metavar="TIME", help="pace, such as 30m, 1h, 1d")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="end a hold, which a worse version caused",
    )
    parser.add_argument("--no-wait", action="store_true", help="ask for them and return at once")
    parser.set_defaults(action=_act)


def _act(options: argparse.Namespace) -> int:
    from common.errors import InputError
    from server.deployment.superlink import is_up
    from server.registry.goal import Plan, left_unspent, rounds_done, write_plan
    from server.registry.pricing import require_price
    from server.round.hold import HOW_TO_GO_ON, on_hold, resume
    from server.round.noise_plan import check_reachable

    place, every_s = place_of(options), _seconds(options.every)
    settings, done = place.settings().run, rounds_done(place.federation)
    require_price(place.federation / "server", settings)
    left = settings.rounds.count - done
    if left <= 0:
        raise InputError(
            f"All {settings.rounds.count} rounds that privity.toml plans are made.",
            "A longer plan costs a new budget: start a new federation.",
        )
    if options.rounds is not None and options.rounds < 1:
        raise InputError(f"--rounds {options.rounds} is no number of rounds.", "Give 1 or more.")
    if options.rounds is not None and options.rounds > left:
        raise InputError(f"--rounds {options.rounds} is more than the {left} that are left.")
    check_reachable(settings, LEAST_DIMENSION)
    wanted, unspent = options.rounds or left, left_unspent(place.federation)
    if options.resume:
        say(f"No longer on hold. {resume(place.federation).why()}")
    elif hold := on_hold(place.federation):
        raise InputError(hold.why(), HOW_TO_GO_ON)
    write_plan(place.federation, Plan(done + unspent + wanted, every_s))
    until = done + wanted
    say(f"Rounds {done + 1} to {until} of {settings.rounds.count} are asked for.")
    if not is_up(place):
        say("None is made before the federation is up: `privity-server up`.")
    return 0 if options.no_wait else _watch(place.federation, done + unspent, wanted)


def _watch(folder: Path, before: int, wanted: int) -> int:
    """Tell each outcome as it comes, until the last or a hold. Ctrl-C ends the watching, no round.

    Args:
        before: Outcomes that there were already.

    Returns:
        The exit code: 1 on hold, and where every attempt was abandoned.
    """
    from server.registry.registry import history
    from server.round.hold import HOW_TO_GO_ON, on_hold

    seen: list[RoundEntry] = []
    waits = ""
    while len(seen) < wanted:
        new = history(folder / "server")[before + len(seen) :][: wanted - len(seen)]
        if not new:
            time.sleep(LOOK_S)
            waits = _tell_why_not(folder, waits)
        for entry in new:
            seen.append(entry)
            say(_told(entry), at_once=True)
            if entry.status == HELD and (hold := on_hold(folder)):
                say(f"{hold.why()} {HOW_TO_GO_ON}")
                return 1
    if any(entry.status != ABANDONED for entry in seen):
        return 0
    say_aside(f"privity-server: {_nothing_done(seen)}")
    return 1


def _told(entry: RoundEntry) -> str:
    of = f"{entry.survivors} of {entry.cohort} devices, {entry.seconds:.1f} s"
    if entry.status != ABANDONED:
        return f"round {entry.round}: {entry.status}, {of}"
    free = "" if entry.charged else "; nobody was charged, and it can be tried again"
    return f"round {entry.round}: abandoned, {of}{free}: {entry.why}"


def _nothing_done(seen: Sequence[RoundEntry]) -> str:
    """What to know and to do where every attempt was abandoned."""
    many = "The one attempt was" if len(seen) == 1 else f"All {len(seen)} attempts were"
    hint = "The log says more."
    if "DeclinedError" in seen[-1].why:
        hint = "Each device says with `privity-client status` what its own policy declines."
    return f"{many} abandoned: {seen[-1].why} {hint}"


def _tell_why_not(folder: Path, told: str) -> str:
    """Say why no round is being made, if there is a reason that was not told last; the reason."""
    from server.deployment import figures

    waits = str(figures.read(folder.parent / "log" / figures.ROUNDS).get(figures.WAITS, ""))
    if waits and waits != told:
        say(f"no round is being made: {waits}", at_once=True)
    return waits


def _seconds(text: str) -> float:
    from common.errors import InputError

    if not text:
        return 0.0
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not found:
        raise InputError(
            f"--every {text[:20]!r} is no length of time.", "Give for example 30m or 1h."
        )
    every_s = float(found[1]) * UNITS_S[found[2]]
    if every_s > LONGEST_DAYS * UNITS_S["d"]:
        raise InputError(f"--every {text[:20]} is longer than {LONGEST_DAYS} days.")
    return every_s
