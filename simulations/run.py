"""One simulated federation from settings to report: prepare, run the rounds, evaluate, write."""

from __future__ import annotations

import fcntl
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import InputError, PrivityError
from common.learning.backbone import adapter_plans
from common.models import chosen_device
from common.rounds.run_folder import keep
from common.settings import Settings, from_mapping
from common.system import files, strict_json
from server.registry.registry import Registry, history
from server.round.noise_plan import check_reachable
from simulations import devices
from simulations.intact import check_intact
from simulations.report.display import Display

SETTINGS_FILE = "settings.json"
SECONDS_FILE = "seconds"
PEOPLE_FILE = "people.sha256"


def resolve(settings: Settings) -> Settings:
    """The settings with the number of users that the data has.

    Raises:
        InputError: When data, users, model, device or threshold cannot work, before anything is
            trained.
    """
    chosen_device(settings.model.device)
    everyone = devices.people(settings)
    labels = settings.task.labels or devices.common_labels(settings)
    values = settings.to_dict() | {"users": len(everyone), "labels": labels}
    resolved = from_mapping(values)
    check_reachable(resolved, adapter_plans(resolved)[0].dimension)
    for user in everyone:
        devices.examples(resolved, user)
    return resolved


def prepare(settings: Settings) -> None:
    """Make the run's folder.

    Raises:
        InputError: When there is something in it.
    """
    folder = Path(settings.simulation.out)
    unfinished = folder.exists() and {f.name for f in folder.iterdir()} - {PEOPLE_FILE}
    if unfinished:
        problem = f"{folder} is not empty."
        raise InputError(problem, "Give --out a new folder, or continue that run with --resume.")
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / PEOPLE_FILE, devices.data_digest(settings))
    _write(folder / SETTINGS_FILE, strict_json.encode(settings.to_dict(), indent=1))


def stored_settings(folder: Path) -> Settings:
    """The settings a run in `folder` was started with.

    Raises:
        InputError: When there is no run.
    """
    file = folder / SETTINGS_FILE
    if not file.exists():
        raise InputError(f"{folder} holds no run to resume.", "Check --out.")
    try:
        stored = strict_json.decode(file.read_text(encoding="utf-8"))
        return from_mapping(stored | {"out": str(folder)})
    except (ValueError, RecursionError, TypeError, AttributeError, InputError):
        raise InputError(
            f"{file} is damaged, or another version's.",
            "Restore it from a copy, or start a new run in another --out.",
        ) from None


def run(settings: Settings, display: Display) -> dict[str, Any]:
    """Run what is left of a prepared run; returns the report, which is also written."""
    folder = Path(settings.simulation.out)
    with _alone_in(folder):
        return _run(settings, folder, display)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock ends with the process, however it ends.

    Raises:
        InputError: When another process holds it.
    """
    with (folder / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            problem = f"Another process is running in {folder}."
            raise InputError(problem, "Wait for it, or give --out another folder.") from None
        yield


def _run(settings: Settings, folder: Path, display: Display) -> dict[str, Any]:
    from simulations.arms import score_base

    check_intact(folder)
    _check_people(settings, folder)
    keys = devices.SeededRandomness(settings.rounds.seed, devices.AUTHORITY)
    keep(folder, f"simulated-{settings.rounds.seed}", keys.stream("authority")(32))
    begin, before = time.monotonic(), _earlier_seconds(folder)
    try:
        with display.bar("base model", settings.rounds.users) as tick:
            score_base(settings, folder, lambda: tick(""))
        _rounds(settings, display)
        return _finish(settings, folder, display, lambda: before + time.monotonic() - begin)
    finally:
        _write(folder / SECONDS_FILE, str(before + time.monotonic() - begin))


def _check_people(settings: Settings, folder: Path) -> None:
    """A ledger belongs to the data it was written for.

    Raises:
        InputError: When the people or their examples are not those the run started with.
    """
    if (folder / PEOPLE_FILE).read_text() != devices.data_digest(settings):
        problem = f"The people's data changed since the run in {folder} was started."
        raise InputError(problem, "Restore the files, or start a new run.")


def _rounds(settings: Settings, display: Display) -> None:
    if settings.simulation.engine == "local":
        from simulations.engines.local import simulate_in_process

        simulate_in_process(settings, display)
    else:
        from simulations.engines.flower import simulate_with_flower

        simulate_with_flower(settings, display)


def _finish(settings: Settings, folder: Path, display: Display, seconds: Any) -> dict[str, Any]:
    from common.adapter.peft_io import save_vector
    from common.adapter.weights import whole
    from simulations.arms import evaluate
    from simulations.report.page import render
    from simulations.report.report import build_report

    registry = Registry(folder / "server", adapter_plans(settings)[0])
    rounds = history(folder / "server")
    if len(rounds) < settings.rounds.count:
        raise PrivityError(f"Only {len(rounds)} of {settings.rounds.count} rounds took place.")
    shared = registry.latest()[0]
    with display.evaluating(settings.rounds.users) as tick:
        results = evaluate(settings, folder, shared, tick)
    save_vector(shared.plan, whole(shared), folder / "adapter")
    report = build_report(settings, folder, rounds, results, seconds())
    _write(folder / "report.json", strict_json.encode(report, indent=1))
    _write(folder / "report.html", render(report))
    return report


def _write(path: Path, content: str) -> None:
    files.write(path, content, durable=False)  # a simulation can be run again


def _earlier_seconds(folder: Path) -> float:
    file = folder / SECONDS_FILE
    return float(file.read_text()) if file.exists() else 0.0


def fresh_folder() -> str:
    """`runs/<time>`, made here and now, so that no other run takes it; numbered where taken."""
    stamp = Path("runs") / time.strftime("%Y-%m-%d-%H%M%S")
    for number in itertools.count(1):
        folder = stamp if number == 1 else stamp.with_name(f"{stamp.name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not stamp.parent.is_dir():
                raise
        else:
            return str(folder)
    raise AssertionError
