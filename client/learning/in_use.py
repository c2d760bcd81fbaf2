"""The settings of the adapter that was kept last: what can be looked up without model software."""

from __future__ import annotations

import json

from client.vault.store import Store
from common.settings import Settings, from_mapping

SETTINGS = "adapter/settings"


def settings_in_use(store: Store, model: str = "") -> Settings:
    """Those of the adapter that was kept last; `model` and the defaults without one."""
    known = store.get(SETTINGS)
    if known:
        return from_mapping(json.loads(known))
    return Settings.of(model=model) if model else Settings()


def put_settings(store: Store, settings: Settings) -> None:
    """Those to use from now on."""
    store.put(SETTINGS, json.dumps(settings.to_dict()).encode())
