"""The adapters in a person's vault, each with the settings that it was made under."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from client.learning.in_use import put_settings, settings_in_use
from client.vault.store import Store
from common.adapter.plan import AdapterPlan, Vector
from common.adapter.weights import Personal, Shared, decode_shared, encode_shared
from common.learning.backbone import adapter_plans
from common.settings import PersonalSettings, Settings
from common.tasks import task_of

SHARED, PERSONAL, KEPT = "adapter/shared", "adapter/personal/", "kept/"


@dataclass(frozen=True, slots=True)
class Adapters:
    """What the assistant may use; None where there is none (yet).

    Attributes:
        kept: Parts of the shared adapter that never left this device (FedSA's B).
    """

    settings: Settings
    shared: Shared | None = field(default=None, repr=False)
    kept: Vector | None = field(default=None, repr=False)
    personal: Personal | None = field(default=None, repr=False)


def load(store: Store, model: str = "") -> Adapters:
    """What the vault has.

    Args:
        model: The model to use where no adapter decides it; the default one where empty.
    """
    settings = settings_in_use(store, model)
    shared_plan, personal_plan = adapter_plans(settings)
    personal = store.get(personal_key(settings))
    return Adapters(
        settings,
        shared_in_use(store),
        kept_here(store, shared_plan),
        Personal(personal_plan, np.frombuffer(personal, dtype="<f4")) if personal else None,
    )


def speaking(store: Store, model: str = "") -> Adapters:
    """What the assistant may answer with: an adapter that gives labels has no words.

    Args:
        model: As in `load`.
    """
    settings = settings_in_use(store, model)
    if task_of(settings.task).speaks:
        return load(store, model)
    return Adapters(Settings.of(model=model) if model else Settings())


def shared_in_use(store: Store) -> Shared | None:
    """The shared adapter that was kept last. Where there is none, no model is looked for."""
    content = store.get(SHARED)
    return decode_shared(adapter_plans(settings_in_use(store))[0], content) if content else None


def keep_shared(store: Store, settings: Settings, shared: Shared) -> None:
    """Use this shared adapter from now on.

    The personal adapter's settings stay the device's own. A personal adapter that does not fit
    the new model is put aside, and is there again when its model is.
    """
    with store.together():
        put_settings(store, with_own(settings, settings_in_use(store).personal))
        store.put(SHARED, encode_shared(shared))


def follow(store: Store, settings: Settings) -> None:
    """Use a federation's model and shapes from now on, without an adapter of its."""
    put_settings(store, with_own(settings, settings_in_use(store).personal))


def keep_personal(store: Store, settings: Settings, personal: Personal) -> None:
    """Use this personal adapter from now on."""
    with store.together():
        put_settings(store, settings)
        store.put(personal_key(settings), personal.vector.astype("<f4").tobytes())


def kept_here(store: Store, plan: AdapterPlan) -> Vector | None:
    """The parts of a shared adapter that never left this device (FedSA's B); None: none yet."""
    stored = store.get(f"{KEPT}{plan.digest()}")
    return None if stored is None else np.frombuffer(stored, dtype="<f4")


def with_own(settings: Settings, own: PersonalSettings) -> Settings:
    """A federation's settings with what concerns the personal adapter from the device's own."""
    return replace(settings, personal=own)


def personal_key(settings: Settings) -> str:
    """Where the vault keeps the personal adapter for this model and shape."""
    return f"{PERSONAL}{settings.model.name}/{adapter_plans(settings)[1].digest()}"
