"""The adapters in a person's vault, each with the settings that it was made under."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import numpy as np

from client.participation import KEPT
from client.store import Store
from common.adapter.plan import Vector
from common.adapter.state import Personal, Shared, decode_shared, encode_shared
from common.backbone import adapter_plans
from common.config import Settings, from_mapping

SHARED, PERSONAL, SETTINGS = "adapter/shared", "adapter/personal", "adapter/settings"


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
    known = store.get(SETTINGS)
    settings = from_mapping(json.loads(known)) if known else Settings()
    if not known and model:
        settings = replace(settings, model=model)
    shared_plan, personal_plan = adapter_plans(settings)
    shared, kept, personal = (store.get(key) for key in (SHARED, KEPT, PERSONAL))
    return Adapters(
        settings,
        decode_shared(shared_plan, shared) if shared else None,
        np.frombuffer(kept, dtype="<f4") if kept else None,
        Personal(personal_plan, np.frombuffer(personal, dtype="<f4")) if personal else None,
    )


def keep_shared(store: Store, settings: Settings, shared: Shared) -> None:
    """Use this shared adapter from now on. A personal one for another plan is dropped."""
    before = load(store) if store.get(SETTINGS) else None
    if before and before.personal and before.personal.plan != adapter_plans(settings)[1]:
        store.drop(PERSONAL)
    store.put(SETTINGS, json.dumps(settings.to_dict()).encode())
    store.put(SHARED, encode_shared(shared))


def keep_personal(store: Store, settings: Settings, personal: Personal) -> None:
    """Use this personal adapter from now on."""
    store.put(SETTINGS, json.dumps(settings.to_dict()).encode())
    store.put(PERSONAL, personal.vector.astype("<f4").tobytes())
