"""The bundle that Flower wants for every run: two component names and settings, and no code.

A deployment always ships the same bytes for one version of this software; what differs from run to
run travels as the run's configuration. So a device knows the one hash it accepts.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from functools import lru_cache

from common.settings import Scalar, Settings

FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # as Flower dates what it packs


def manifest(settings: Settings) -> str:
    """The `pyproject.toml` of a Flower app whose configuration is these settings."""
    config = "".join(f"{key} = {_toml(value)}\n" for key, value in settings.to_dict().items())
    return (
        '[project]\nname = "privity"\nversion = "0"\n\n[tool.flwr.app]\npublisher = "privity"\n\n'
        '[tool.flwr.app.components]\nserverapp = "server.app:app"\nclientapp = "client.app:app"\n\n'
        f"[tool.flwr.app.config]\n{config}"
    )


@lru_cache(maxsize=1)
def bundle() -> bytes:
    """The bundle of every deployed run, as a zip file without compression.

    Flower compresses, and what that gives depends on the machine's zlib; a device must be able to
    make the very same bytes.
    """
    from flwr.cli.build import build_fab_from_files

    packed, _ = build_fab_from_files({"pyproject.toml": manifest(Settings()).encode()})
    stored = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(packed)) as source, zipfile.ZipFile(stored, "w") as target:
        for name in source.namelist():
            target.writestr(zipfile.ZipInfo(name, FIRST_DAY), source.read(name))
    return stored.getvalue()


def bundle_hash() -> str:
    """SHA-256 of `bundle()`, hex."""
    return hashlib.sha256(bundle()).hexdigest()


def _toml(value: Scalar) -> str:
    """Return a TOML literal: JSON's, but for one control character that JSON leaves alone."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
