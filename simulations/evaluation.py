"""What each person got: held-out figures of base, shared, shared + personal, and local.

Runs on the simulated device with the device's own training code. `local` is the personal adapter
alone, never federated: the difference to it is what federation really adds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Any

from client.device import Device
from client.participation import kept_here
from client.training import train_personal
from common.adapter import lora
from common.adapter.peft_io import save_adapter
from common.adapter.plan import BOTH, kept_parts
from common.adapter.state import Shared
from common.backbone import Backbone, backbone_for
from common.config import Settings
from common.privacy.accountant import Release, epsilon, epsilon_of_two
from common.privacy.user_level import user_epsilon
from common.tasks.chat import Turn
from simulations import devices

ARMS = ("base", "shared", "personal", "local")
EVALUATION_MEMBER = 0
Both = tuple[Sequence[Turn], Sequence[Turn]]  # to train on, and held out
PERSONAL = "personal"  # what the randomness of both personal fits is for


@dataclass(frozen=True, slots=True)
class PersonResult:
    """One person's held-out metrics by arm, and what they spent."""

    entry: dict[str, Any]  # as in `report.json`, `per_user`
    trained_tokens: int


def evaluate(
    settings: Settings, run: Path, shared: Shared, done: Callable[[], None]
) -> list[PersonResult]:
    """Every person's results, in client order; kept in the run's folder as they come."""
    results = []
    for number, user in enumerate(devices.people(settings)):
        file = run / "evaluation" / f"{number:05d}-{shared.digest()[:16]}.json"
        if not file.exists():
            _keep(file, _person(settings, run, shared, number, user))
        stored = json.loads(file.read_text())
        results.append(PersonResult(stored["entry"], stored["trained_tokens"]))
        done()
    return results


def _keep(file: Path, result: PersonResult) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_suffix(".partial")
    content = {"entry": result.entry, "trained_tokens": result.trained_tokens}
    scratch.write_text(json.dumps(content))
    scratch.replace(file)


def _person(settings: Settings, run: Path, shared: Shared, number: int, user: str) -> PersonResult:
    device = devices.open_device(settings, run, number, EVALUATION_MEMBER)
    try:
        backbone, both = backbone_for(settings), devices.examples(settings, user)
        scores, tokens = _arms(
            settings, run / "devices" / f"{number:05d}", backbone, device, shared, both
        )
        releases = device.store.ledger.releases()
        rhos = device.store.ledger.user_rhos()
        noises = [release.noise_multiplier for release in device.store.ledger.trainings()]
        entry: dict[str, Any] = {
            "user": user,
            "train": len(both[0]),
            "heldout": len(both[1]),
            **scores,
            "epsilon": epsilon(releases, settings.delta, settings.accountant)
            if settings.dp
            else None,
            "epsilon_message": _of_message(releases, settings),
            "noise_multiplier": min(noises) if settings.dp and noises else None,
            "user_epsilon": user_epsilon(rhos, settings.user_delta)
            if settings.user_epsilon
            else None,
        }
        return PersonResult(entry, tokens)
    finally:
        device.store.close()


def _of_message(releases: Sequence[Release], settings: Settings) -> float | None:
    """What one message costs, which can be in two examples; None where that has no bound."""
    spent = epsilon_of_two(releases, settings.delta, settings.accountant) if settings.dp else inf
    return spent if isfinite(spent) else None


def _arms(
    settings: Settings,
    folder: Path,
    backbone: Backbone,
    device: Device,
    shared: Shared,
    both: Both,
) -> tuple[dict[str, dict[str, float]], int]:
    train, heldout = map(backbone.prepared, both)
    model, scores = backbone.model, {}
    with lora.active(model):
        scores["base"] = backbone.score(heldout).metrics()

    _use_shared(backbone, device, shared)
    with lora.active(model, lora.SHARED):
        scores["shared"] = backbone.score(heldout).metrics()

    random = device.randomness.stream(PERSONAL)
    _, tokens = train_personal(backbone, train, settings, random, on_shared=True)
    save_adapter(model, lora.PERSONAL, folder / "personal")
    with lora.active(model, lora.SHARED, lora.PERSONAL):
        scores["personal"] = backbone.score(heldout).metrics()

    scores["local"], more = _alone(backbone, device, settings, both)
    return scores, tokens + more


_ALONE: dict[tuple[object, ...], tuple[dict[str, float], int]] = {}


def _alone(
    backbone: Backbone, device: Device, settings: Settings, both: Both
) -> tuple[dict[str, float], int]:
    """The personal adapter without the federation; the same for all runs of one person."""
    names = ("personal_epochs", "personal_rate", "personal_batch", "weight_decay", "dtype")
    chosen = tuple(getattr(settings, name) for name in names)
    seed = int.from_bytes(device.randomness.stream(PERSONAL)(8), "little")
    key = (backbone.personal, *map(tuple, both), chosen, seed)
    if key not in _ALONE:
        train, heldout = map(backbone.prepared, both)
        random = device.randomness.stream(PERSONAL)
        _, tokens = train_personal(backbone, train, settings, random, on_shared=False)
        with lora.active(backbone.model, lora.PERSONAL):
            _ALONE[key] = (backbone.score(heldout).metrics(), tokens)
    return _ALONE[key]


def _use_shared(backbone: Backbone, device: Device, shared: Shared) -> None:
    """The published adapter, with the parts this device kept (FedSA's B)."""
    plan = shared.plan
    lora.write(backbone.model, lora.SHARED, plan, BOTH, plan.initial(BOTH))
    lora.write(backbone.model, lora.SHARED, plan, plan.sent, shared.vector)
    kept = kept_here(device.store, plan)
    if kept is not None:
        lora.write(backbone.model, lora.SHARED, plan, kept_parts(plan.sharing), kept)
