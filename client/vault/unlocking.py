"""How a vault's key is kept: wrapped, under a secret in the OS keyring or under a passphrase.

The database's key is 32 random bytes that never change. `vault.json` holds them encrypted with
AES-256-GCM under a wrapping key: 32 random bytes in the OS keyring, or what Argon2id (RFC 9106)
makes of a passphrase. So a wrong secret is told from a damaged database, and a change of passphrase
touches one small file; but whoever kept an old `vault.json` and its passphrase still has the key.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from common.errors import InputError

KEYRING, PASSPHRASE = "keyring", "passphrase"
VERSION = 1
KEY_BYTES, SALT_BYTES, NONCE_BYTES = 32, 16, 12
SHORTEST = 8  # characters of a new passphrase
SERVICE = "privity"  # the keyring entry's service; its user name is the vault's id
COMMON = {"version", "vault", "kept", "wrapped"}
NO_KEYRING = "`privity-client init --passphrase` keeps the key under a passphrase."

Header = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess at a passphrase costs: Argon2id's passes, KiB of memory and lanes."""

    passes: int = 3
    memory_kib: int = 64 * 1024
    lanes: int = 4

    def __post_init__(self) -> None:
        bounds = ((self.passes, 64), (self.memory_kib, 4 * 2**20), (self.lanes, 64))
        if not all(type(value) is int and 1 <= value <= most for value, most in bounds):
            raise ValueError(f"{self} is out of bounds")


DEFAULT_COST = Cost()  # RFC 9106, section 4, the second recommended option


class Unlock(Protocol):
    """One way to keep the wrapping key."""

    @property
    def kept(self) -> str:
        """Its name in `vault.json`."""

    def fresh(self, vault: str) -> tuple[Header, bytes]:
        """A new wrapping key for the vault of this id, and what its header must say of it."""

    def key(self, header: Mapping[str, Any]) -> bytes:
        """The wrapping key that a header belongs to."""

    def forget(self, header: Mapping[str, Any]) -> None:
        """Remove what was kept for a header that is no longer used."""


class Passphrase:
    """A passphrase, asked for when it is needed.

    Args:
        ask: Gives the passphrase; told whether it is a new one.
        cost: For new vaults; an old one's stands in its header.
    """

    kept = PASSPHRASE

    def __init__(self, ask: Callable[[bool], str], cost: Cost | None = None) -> None:
        self._ask, self._cost = ask, cost or DEFAULT_COST

    def fresh(self, vault: str) -> tuple[Header, bytes]:  # noqa: ARG002
        """Ask for a new passphrase.

        Raises:
            InputError: When it is too short.
        """
        passphrase = self._ask(True)
        if len(passphrase) < SHORTEST:
            problem = f"A passphrase needs at least {SHORTEST} characters, not {len(passphrase)}."
            raise InputError(problem, "Several words that you can remember are a good one.")
        salt = os.urandom(SALT_BYTES)
        cost = {
            "passes": self._cost.passes,
            "memory_kib": self._cost.memory_kib,
            "lanes": self._cost.lanes,
        }
        header = {"argon2id": cost, "salt": base64.b64encode(salt).decode()}
        return header, _argon2id(passphrase, salt, self._cost)

    def key(self, header: Mapping[str, Any]) -> bytes:
        """Ask for the passphrase."""
        salt = base64.b64decode(header["salt"], validate=True)
        cost = Cost(**header["argon2id"])
        if set(header) != COMMON | {"argon2id", "salt"} or len(salt) != SALT_BYTES:
            raise ValueError("not a header with a passphrase")
        return _argon2id(self._ask(False), salt, cost)

    def forget(self, header: Mapping[str, Any]) -> None:
        """A passphrase is kept nowhere."""


class Keyring:
    """The OS keyring.

    Args:
        backend: One of `keyring`'s backends; the default is the machine's own.
    """

    kept = KEYRING

    def __init__(self, backend: Any = None) -> None:
        self._backend = backend

    def fresh(self, vault: str) -> tuple[Header, bytes]:
        """Put a new random key into the keyring.

        Raises:
            InputError: When there is no keyring that encrypts.
        """
        key = os.urandom(KEY_BYTES)
        spelled = base64.b64encode(key).decode()
        self._call("set_password", vault, spelled)
        if self._call("get_password", vault) != spelled:
            raise InputError("The OS keyring did not keep what it was given.", NO_KEYRING)
        return {}, key

    def key(self, header: Mapping[str, Any]) -> bytes:
        """Read the key from the keyring.

        Raises:
            InputError: When it is not there, or there is no keyring that encrypts.
        """
        if set(header) != COMMON:
            raise ValueError("not a header with a key in the keyring")
        kept = self._call("get_password", header["vault"])
        if kept is None:
            problem = "The OS keyring holds no key for this vault."
            raise InputError(problem, "Unlock the keyring that was in use when it was made.")
        try:
            key = base64.b64decode(kept, validate=True)
        except (TypeError, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise InputError(_wrong(KEYRING), "Restore the keyring from a backup.")
        return key

    def forget(self, header: Mapping[str, Any]) -> None:
        """Delete the key from the keyring."""
        self._call("delete_password", header["vault"])

    def _call(self, name: str, *arguments: str) -> Any:
        try:
            import keyring

            backend = _encrypting(self._backend or keyring.get_keyring())
            return getattr(backend, name)(SERVICE, *arguments)
        except InputError:
            raise
        except Exception as error:  # each back end has its own; their texts may quote a secret
            problem = f"The OS keyring refused ({type(error).__name__})."
            raise InputError(problem, "Unlock it and try again.") from None


def new_header(unlock: Unlock, key: bytes, vault: str | None = None) -> Header:
    """What `vault.json` holds for a database key of 32 bytes: a new secret, and the key wrapped."""
    vault = vault or os.urandom(16).hex()
    parameters, wrapping = unlock.fresh(vault)
    header = {"version": VERSION, "vault": vault, "kept": unlock.kept, **parameters}
    nonce = os.urandom(NONCE_BYTES)
    sealed = nonce + _cipher(wrapping).encrypt(nonce, key, _associated(header))
    return header | {"wrapped": base64.b64encode(sealed).decode()}


def database_key(header: Mapping[str, Any], unlock: Unlock) -> bytes:
    """The database's key, out of `vault.json`.

    Raises:
        InputError: For the wrong secret, another way of keeping it, or a header that is damaged.
    """
    from cryptography.exceptions import InvalidTag

    if header.get("version") != VERSION:
        problem = f"This vault has version {header.get('version')!r}, not {VERSION}."
        raise InputError(problem, "Open it with the software that made it.")
    if header.get("kept") != unlock.kept:
        problem = f"This vault's key is kept by {header.get('kept')!r}, not {unlock.kept!r}."
        raise InputError(problem, "Unlock it that way.")
    try:
        sealed = base64.b64decode(header["wrapped"], validate=True)
        wrapping = unlock.key(header)
        associated = _associated({k: v for k, v in header.items() if k != "wrapped"})
        nonce, locked = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        return bytes(_cipher(wrapping).decrypt(nonce, locked, associated))
    except InvalidTag:
        raise InputError(_wrong(unlock.kept), "The vault was not touched.") from None
    except (KeyError, TypeError, ValueError):
        problem = "The vault's vault.json is damaged."
        raise InputError(problem, "Restore it from a backup.") from None


def _wrong(kept: str) -> str:
    if kept == PASSPHRASE:
        return "Wrong passphrase."
    return "The key in the OS keyring is not this vault's."


def _cipher(wrapping: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(wrapping)


def _associated(header: Mapping[str, Any]) -> bytes:
    return b"privity/vault/" + json.dumps(header, sort_keys=True).encode()


def _argon2id(passphrase: str, salt: bytes, cost: Cost) -> bytes:
    from argon2.exceptions import HashingError
    from argon2.low_level import Type, hash_secret_raw

    try:
        return hash_secret_raw(
            passphrase.encode("utf-8", "surrogateescape"),
            salt,
            time_cost=cost.passes,
            memory_cost=cost.memory_kib,
            parallelism=cost.lanes,
            hash_len=KEY_BYTES,
            type=Type.ID,
        )
    except HashingError as error:  # too little memory, or parameters that make no sense
        raise InputError(f"The passphrase could not be used: {error}.") from None


def _encrypting(backend: Any) -> Any:
    """The backend that would be used, if it keeps what it is given encrypted.

    Keyring gives a priority below 1 to backends that store nothing, plain text, or weakly.
    """
    from keyring.backends.chainer import ChainerBackend

    if isinstance(backend, ChainerBackend):
        backend = next(iter(backend.backends), None)
    name = type(backend).__name__
    try:
        trusted = backend is not None and backend.priority >= 1 and "plain" not in name.lower()
    except Exception:  # a backend that cannot work here says so by raising
        trusted = False
    if not trusted:
        raise InputError("There is no OS keyring that encrypts on this machine.", NO_KEYRING)
    return backend
