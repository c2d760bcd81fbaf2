"""What each person got: held-out figures of base, shared, shared + personal, and local.

Runs on the simulated device with the device's own training code. `local` is the personal adapter
alone, never federated: the difference to it is what federation really adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from client.federation.device import Device
from client.learning.adapters import kept_here
from client.learning.training import train_personal
from common.adapter.peft_io import save_vector
from common.adapter.weights import Shared, whole
from common.errors import InputError
from common.learning.backbone import Backbone, backbone_for
from common.privacy.accountant import Release, epsilon, epsilon_of_two
from common.privacy.user_level import user_epsilon
from common.settings import RecordLevel, Settings, TaskSettings
from common.system import files, strict_json
from common.tasks import task_of
from common.tasks.counts import Counts
from common.tasks.task import Example, Score, mean_loss
from simulations import devices
from simulations.pooled import pooled

ARMS = ("base", "shared", "personal", "local")
EVALUATION_MEMBER = 0
Both = tuple[Sequence[Example], Sequence[Example]]  # to train on, and held out
PERSONAL = "personal"  # what the randomness of both personal fits is for


@dataclass(frozen=True, slots=True)
class PersonResult:
    """One person's held-out metrics by arm, and what they spent."""

    entry: dict[str, Any]  # as in `report.json`, `per_user`
    trained_tokens: int
    counts: dict[str, Counts]  # of each arm, for tables


def evaluate(
    settings: Settings, run: Path, shared: Shared, done: Callable[[], None]
) -> list[PersonResult]:
    """Every person's results, in client order; kept in the run's folder as they come."""
    results = []
    for number, user in enumerate(devices.people(settings)):
        file = run / "evaluation" / f"{number:05d}-{shared.digest()[:16]}.json"
        if not file.exists():
            result = _person(settings, run, shared, number, user)
            _keep(file, asdict(result))
        results.append(PersonResult(**_kept(file)))
        done()
    return results


def score_base(settings: Settings, run: Path, done: Callable[[], None]) -> None:
    """Everybody's held-out figures of the base, kept in the run's folder as they come.

    Before anybody is charged, since with damaged weights nothing can be learnt.

    Raises:
        InputError: When a figure is no finite number.
    """
    for number, user in enumerate(devices.people(settings)):
        if not _base_file(run, number).exists():
            backbone = backbone_for(settings)
            heldout = backbone.prepared(devices.examples(settings, user)[1])
            with backbone.using():
                score = backbone.score(heldout)
            metrics = score.metrics()
            if not _usable(metrics):
                raise InputError(
                    f"The loss of the base model {settings.model.name!r} on the held-out "
                    f"{backbone.task.several} of {user} is {mean_loss(score):g}.",
                    "Its weights are damaged or do not suit this --dtype; nothing was trained.",
                )
            _keep(_base_file(run, number), {"metrics": metrics, "counts": score.counts()})
        done()


def _base_file(run: Path, number: int) -> Path:
    return run / "evaluation" / f"{number:05d}-base.json"


def _usable(metrics: dict[str, float]) -> bool:
    return all(math.isfinite(value) for value in metrics.values())


def _checked(score: Score, task: TaskSettings, arm: str, user: str) -> dict[str, float]:
    """The figures of an arm that was trained.

    Raises:
        InputError: When one is no finite number.
    """
    metrics = score.metrics()
    if not _usable(metrics):
        raise InputError(
            f"Training diverged: the loss of {arm!r} on the held-out "
            f"{task_of(task).several} of {user} is {mean_loss(score):g}.",
            "Lower --learning-rate or --server-rate, or --personal-rate for the personal adapter.",
        )
    return metrics


def _kept(file: Path) -> dict[str, Any]:
    """What an earlier part of the run kept.

    Raises:
        InputError: When the file is damaged.
    """
    try:
        stored = strict_json.decode(file.read_text(encoding="utf-8"))
    except ValueError:
        stored = None
    if not isinstance(stored, dict):
        raise InputError(f"{file} is damaged.", "Delete it: it is computed again.")
    return stored


def _keep(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    files.write(file, strict_json.encode(content), durable=False)


def _person(settings: Settings, run: Path, shared: Shared, number: int, user: str) -> PersonResult:
    device = devices.open_device(settings, run, number, EVALUATION_MEMBER)
    try:
        backbone, both = backbone_for(settings), devices.examples(settings, user)
        base = _kept(_base_file(run, number))
        scores, tokens = _arms(
            settings, run / "devices" / f"{number:05d}", backbone, device, shared, both
        )
        if settings.simulation.pooled:
            scores["pooled"] = _pooled(settings, run, backbone, both)
        arms = {arm: _checked(score, settings.task, arm, user) for arm, score in scores.items()}
        releases = device.store.ledger.releases()
        rhos = device.store.ledger.user_rhos()
        noises = [release.noise_multiplier for release in device.store.ledger.trainings()]
        entry: dict[str, Any] = {
            "user": user,
            "train": len(both[0]),
            "heldout": len(both[1]),
            "base": base["metrics"],
            **arms,
            "epsilon": epsilon(releases, settings.record.delta, settings.record.accountant)
            if settings.record.dp
            else None,
            "epsilon_message": _of_message(releases, settings.record, settings.task),
            "noise_multiplier": min(noises) if settings.record.dp and noises else None,
            "user_epsilon": user_epsilon(rhos, settings.user.delta)
            if settings.user.epsilon
            else None,
        }
        counts = {"base": base["counts"], **{arm: s.counts() for arm, s in scores.items()}}
        return PersonResult(entry, tokens, counts)
    finally:
        device.store.close()


def _of_message(
    releases: Sequence[Release], record: RecordLevel, task: TaskSettings
) -> float | None:
    """What a record costs that can be in two examples; None where it cannot, or has no bound."""
    if not record.dp or not task_of(task).overlapping:
        return None
    spent = epsilon_of_two(releases, record.delta, record.accountant)
    return spent if math.isfinite(spent) else None


def _arms(
    settings: Settings,
    folder: Path,
    backbone: Backbone,
    device: Device,
    shared: Shared,
    both: Both,
) -> tuple[dict[str, Score], int]:
    train, heldout = map(backbone.prepared, both)
    weights, scores = whole(shared, kept_here(device.store, shared.plan)), dict[str, Score]()
    with backbone.using(weights):
        scores["shared"] = backbone.score(heldout)

    random = device.randomness.stream(PERSONAL)
    personal, tokens = train_personal(
        backbone, train, settings.personal, settings.training, random, shared=weights
    )
    save_vector(personal.plan, personal.vector, folder / "personal")
    with backbone.using(weights, personal.vector):
        scores["personal"] = backbone.score(heldout)

    scores["local"], more = _alone(backbone, device, settings, both)
    return scores, tokens + more


def _pooled(settings: Settings, run: Path, backbone: Backbone, both: Both) -> Score:
    weights = pooled(settings, run)
    with backbone.using(weights):
        return backbone.score(backbone.prepared(both[1]))


_ALONE: dict[tuple[object, ...], tuple[Score, int]] = {}


def _alone(backbone: Backbone, device: Device, settings: Settings, both: Both) -> tuple[Score, int]:
    """The personal adapter without the federation; the same for all runs of one person."""
    chosen = settings.personal, settings.training.weight_decay, settings.model.dtype
    seed = int.from_bytes(device.randomness.stream(PERSONAL)(8), "little")
    key = (backbone.personal, *map(tuple, both), chosen, seed)
    if key not in _ALONE:
        train, heldout = map(backbone.prepared, both)
        random = device.randomness.stream(PERSONAL)
        personal, tokens = train_personal(
            backbone, train, settings.personal, settings.training, random, shared=None
        )
        with backbone.using(personal=personal.vector):
            _ALONE[key] = (backbone.score(heldout), tokens)
    return _ALONE[key]
