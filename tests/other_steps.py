"""Devices whose rounds are of other steps than the product's (`client/federation/steps.py`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from client.federation import steps


def with_steps(monkeypatch: pytest.MonkeyPatch, **other: Any) -> None:
    """Devices that are made from now on have these steps in place of the product's, by name."""
    monkeypatch.setattr(steps, "SOUND", replace(steps.SOUND, **other))
