"""Figures that one process of a deployment leaves for another to look at: small JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common.errors import disk_is_full
from common.system import files

GATEWAY, PARTS, ROUNDS = "gateway.json", "parts.json", "rounds.json"  # in the folder of the log
WAITS = "waits"  # in the last: why no round is being made that was asked for


def keep(file: Path, figures: dict[str, Any]) -> None:
    """Replace what the file holds; whoever reads sees the old or the new. A full disk: the old."""
    try:
        files.write(file, json.dumps(figures), durable=False)
    except OSError as error:
        if not disk_is_full(error):
            raise


def read(file: Path) -> dict[str, Any]:
    """What was kept last; empty where there is nothing."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
