"""Published adapters by the names an operator gives them, and what can be done with one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from common.adapter.weights import whole
from common.errors import InputError
from common.rounds.outcomes import DONE
from common.system import files
from server.registry.evaluations import latest
from server.registry.goal import between_rounds
from server.registry.registry import START, Registry, Rollback, current, entries, provenances

LATEST = "latest"
LEAST_DIGITS = 6  # of a digest's prefix; fewer are a round's number
PROVENANCE_FILE = "provenance.json"


def find_version(folder: Path, name: str) -> int:
    """The round that published the version called `name`; 0 for the start.

    Args:
        folder: The registry's.
        name: A round's number, six or more characters of a digest, or `latest`: the version from
            which the next round starts.

    Raises:
        InputError: No published version is called so, or more than one.
    """
    if name == LATEST:
        return current(folder)
    if re.fullmatch(rf"\d{{1,{LEAST_DIGITS - 1}}}", name):
        return _by_number(folder, int(name))
    if re.fullmatch(rf"[0-9a-f]{{{LEAST_DIGITS},64}}", name.lower()):
        return _by_digest(folder, name.lower())
    raise InputError(
        f"{name!r} is no version.",
        f"Give a round's number, {LEAST_DIGITS} or more characters of a digest, or {LATEST}.",
    )


def _by_number(folder: Path, number: int) -> int:
    if number == START:
        return START
    outcomes = {entry.round: entry.status for entry in entries(folder)}
    if number not in outcomes:
        raise InputError(f"There was no round {number}.", _SEE)
    if outcomes[number] != DONE:
        raise InputError(f"Round {number} was {outcomes[number]} and published no adapter.", _SEE)
    return number


def _by_digest(folder: Path, prefix: str) -> int:
    found = [
        entry.round
        for entry in entries(folder)
        if entry.status == DONE and entry.adapter_sha256.startswith(prefix)
    ]
    if not found:
        raise InputError(f"No published adapter's digest begins with {prefix}.", _SEE)
    if len(found) > 1:
        rounds = ", ".join(str(number) for number in found)
        raise InputError(f"{prefix} could be of rounds {rounds}.", "Give a round's number.")
    return found[0]


_SEE = "See `privity-server adapters`."


def roll_back(
    folder: Path, registry: Registry, name: str, waiting: Callable[[], None] = lambda: None
) -> Rollback:
    """Let rounds start from a version again, from the end of the round that is being made, if any.

    Args:
        folder: The federation's.

    Raises:
        InputError: No version is called so, or rounds start from it already.
        PrivityError: Its file was changed.
    """
    place = folder / "server"
    find_version(place, name)  # a wrong name needs not wait
    with between_rounds(folder, waiting):
        number = find_version(place, name)
        if number == current(place):
            raise InputError(f"Rounds start from version {number} already.", _SEE)
        return registry.roll_back(number)


def export(folder: Path, registry: Registry, name: str, target: Path) -> int:
    """Write a version as PEFT does, with provenance and evaluation; which round published it.

    Args:
        folder: The federation's.
        target: A new or an empty folder. It is filled at once or not at all.

    Raises:
        InputError: No version is called so, the folder is in use, or nothing could be used alone.
        PrivityError: The version's file was changed.
    """
    from common.adapter.peft_io import save_vector

    place, target = folder / "server", target.absolute()
    number = find_version(place, name)
    if number == START:
        raise InputError("Version 0 is the start: it changes nothing in the model.", _SEE)
    plan = registry.plan
    if "B" not in plan.sent:
        problem = f"With sharing = {plan.sharing!r} the federation's part does nothing by itself:"
        raise InputError(problem + " each device keeps its own B.", "Nothing can be exported.")
    _require_free(target)
    shared = registry.version(number)[0]
    origin = provenances(place).get(number)
    try:
        with files.new_folder(target) as scratch:
            save_vector(plan, whole(shared), scratch)
            if origin:
                found = latest(registry.evaluations()).get(number)
                told = origin.to_dict() | ({"evaluation": found.to_dict()} if found else {})
                content = json.dumps(told, indent=1)
                (scratch / PROVENANCE_FILE).write_text(content, encoding="utf-8")
    except OSError as error:
        _require_free(target)
        raise InputError(f"{target} cannot be made: {error.strerror}.") from None
    return number


def _require_free(target: Path) -> None:
    if files.is_taken(target):
        raise InputError(f"{target} exists already.", "Give another place; nothing was changed.")
