"""Where a run keeps its files, and the enrolment authority that certifies its devices."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.enrolment.log import EnrolmentLog, opened
from common.errors import InputError, ProtocolError
from common.models.wheels import cache_dir
from common.secagg.identity import device_key
from common.settings import SimulationSettings
from common.system import files

PUBLIC, LOG = "authority.pub", "enrolment.log"
FEDERATION = "PRIVITY_FEDERATION"  # environment of a deployment's ServerApp


def run_folder(simulation: SimulationSettings, run_id: int) -> Path:
    """The run's folder: a deployment's own, `--out`, or one in the cache named after the run."""
    if deployed := os.environ.get(FEDERATION):
        return Path(deployed)
    return Path(simulation.out) if simulation.out else cache_dir() / "flower-runs" / str(run_id)


def keep(folder: Path, name: str, authority_seed: bytes) -> None:
    """Fix the run's id and its authority's key (32 bytes), where a run must be repeatable."""
    _kept(folder / "run-id", name.encode())
    _kept(folder / "authority.key", authority_seed)


def run_name(folder: Path) -> str:
    """The run's id in round terms and ledgers: a random name, kept in its folder."""
    return _kept(folder / "run-id", os.urandom(16).hex().encode()).decode()


def run_seed(folder: Path) -> int:
    """A random seed for what is public of a run: A of its adapters, who is asked in a round."""
    return int.from_bytes(_kept(folder / "seed", os.urandom(4)), "big") >> 1


def authority_key(folder: Path) -> Ed25519PrivateKey:
    """The run's enrolment authority, made on first use; readable by its owner alone."""
    return Ed25519PrivateKey.from_private_bytes(_kept(folder / "authority.key", os.urandom(32)))


def kept_authority_key(folder: Path, trusting: Path) -> Ed25519PrivateKey:
    """The authority's key in `folder`, which the run in the folder `trusting` goes by.

    Raises:
        InputError: There is none, it is damaged, or the run goes by another one.
    """
    file, public = folder / "authority.key", trusting / PUBLIC
    hint = "Restore keys/ from a copy; a new key would admit nobody to this federation's rounds."
    try:
        key = Ed25519PrivateKey.from_private_bytes(file.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{file} is missing.", hint) from None
    except ValueError:
        raise InputError(f"{file} is damaged.", hint) from None
    if public.exists() and public.read_bytes() != key.public_key().public_bytes_raw():
        raise InputError(f"{file} is not the key that {public} is the public half of.", hint)
    return key


def trusted(folder: Path) -> Ed25519PublicKey:
    """The enrolment authority that a deployment's run goes by; its private half is not looked for.

    Raises:
        InputError: It is missing or damaged.
    """
    public = folder / PUBLIC
    try:
        return device_key(public.read_bytes())
    except (OSError, ProtocolError):
        hint = "Start `privity-server up` once, which makes it from keys/authority.key."
        raise InputError(f"{public} is missing or damaged.", hint) from None


def authority(folder: Path) -> Ed25519PublicKey:
    """The public half of the run's enrolment authority; where that is all there is, from a file."""
    public = folder / PUBLIC
    if public.exists():
        return Ed25519PublicKey.from_public_bytes(public.read_bytes())
    return authority_key(folder).public_key()


def keep_authority(folder: Path, key: Ed25519PublicKey) -> None:
    """Let a run trust an authority whose own key is kept elsewhere."""
    _kept(folder / PUBLIC, key.public_bytes_raw())


def keep_log(folder: Path, log: EnrolmentLog) -> None:
    """Put a signed enrolment log where the run's rounds find it: all of it or what was there."""
    files.write(folder / LOG, log.part(), mode=files.PRIVATE)


def kept_log(folder: Path) -> EnrolmentLog | None:
    """The run's signed enrolment log; None for a run that keeps none: a simulation.

    Raises:
        ProtocolError: It is damaged.
        InputError: The authority's public half is missing or damaged.
    """
    path = folder / LOG
    return opened(trusted(folder), path.read_bytes()) if path.exists() else None


def _kept(path: Path, fresh: bytes) -> bytes:
    """What the file holds; `fresh`, written for the owner alone, where there is none."""
    if path.exists():  # whole, and readable on a full disk too
        return path.read_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    files.create(path, fresh, mode=files.PRIVATE)  # unless another process was first
    return path.read_bytes()
