"""The operator's folder: where everything is, how it begins, and who may read it.

```
privity.toml            settings, edited by a person
keys/                   ca.key ca.crt · server.key server.crt · authority.key
enrolment.db            invites and devices
superlink.db            Flower's own
federation/             run-id, authority.pub and server/: rounds, adapters, attempts
log/                    one log a person can read
```
Only its owner can read any of it. A new folder is filled beside its place and then renamed into
it, so that there is a whole one or none.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from shlex import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.config import Settings
from common.enrolment import spell_fingerprint
from common.errors import InputError
from common.places import authority_key, keep_authority, kept_authority_key, run_seed
from server import certificates
from server.certificates import Keyed
from server.enrolment import Enrolment
from server.settings import FederationSettings, GatewaySettings, OperatorSettings, load, text

SECRET_FILE, SECRET_FOLDER = 0o600, 0o700


@dataclass(frozen=True, slots=True)
class Place:
    """An operator's folder. Nothing is read until it is asked for."""

    folder: Path

    @property
    def settings_file(self) -> Path:
        """privity.toml."""
        return self.folder / "privity.toml"

    @property
    def keys(self) -> Path:
        """The folder of keys and certificates."""
        return self.folder / "keys"

    @property
    def ca_certificate(self) -> Path:
        """The TLS authority's certificate, PEM; not secret."""
        return self.keys / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """The TLS authority's key."""
        return self.keys / "ca.key"

    @property
    def server_certificate(self) -> Path:
        """The certificate of gateway and SuperLink, PEM."""
        return self.keys / "server.crt"

    @property
    def server_key(self) -> Path:
        """Its key."""
        return self.keys / "server.key"

    @property
    def enrolment_file(self) -> Path:
        """Invites and devices."""
        return self.folder / "enrolment.db"

    @property
    def superlink_file(self) -> Path:
        """Flower's own database."""
        return self.folder / "superlink.db"

    @property
    def federation(self) -> Path:
        """What the rounds left: run-id and server/, as common/places.py has it."""
        return self.folder / "federation"

    @property
    def log(self) -> Path:
        """The folder of the log."""
        return self.folder / "log"

    def settings(self) -> OperatorSettings:
        """What privity.toml says now.

        Raises:
            InputError: Naming what is wrong with it.
        """
        return load(self.settings_file)

    def run(self) -> Settings:
        """The settings of its runs, with the public seed that this federation drew.

        Raises:
            InputError: Naming what is wrong with privity.toml.
        """
        return replace(self.settings().run, seed=run_seed(self.federation))

    def authority(self) -> Ed25519PrivateKey:
        """The enrolment authority's key.

        Raises:
            InputError: It is missing or damaged, or not the one that this federation goes by.
        """
        return kept_authority_key(self.keys, self.federation)

    def ca(self) -> Keyed:
        """The TLS authority.

        Raises:
            InputError: It is missing or damaged.
        """
        return _keyed(self.ca_certificate, self.ca_key)

    def server(self) -> Keyed:
        """The server certificate and its key.

        Raises:
            InputError: It is missing or damaged.
        """
        return _keyed(self.server_certificate, self.server_key)

    def fingerprint(self) -> str:
        """What devices are told with their invite: `AB:CD:…`, SHA-256 of the authority's DER."""
        return spell_fingerprint(certificates.fingerprint(self.ca().certificate))

    def enrolment(self) -> Enrolment:
        """The invites and devices; to be closed by who asked."""
        return Enrolment(self.enrolment_file)

    def renew(self, names: Iterable[str], now: datetime | None = None) -> bool:
        """Replace the server certificate where it ends within 30 days or has other names.

        A missing or damaged one is replaced too; the authority's never is. Key and certificate
        are two files: a crash between them leaves a pair that does not match, which the next call
        replaces. Returns whether it did.
        """
        authority = self.ca()
        try:
            fresh = certificates.renewed(self.server(), authority, names, now)
        except InputError:
            fresh = certificates.new_server(authority, names, now)
        if fresh is None:
            return False
        _write(self.server_key, fresh.key_pem())
        _write(self.server_certificate, fresh.certificate_pem())
        return True


def create(
    folder: Path,
    *,
    name: str = "Privity",
    names: Iterable[str] = (),
    port: int = 8443,
    now: datetime | None = None,
) -> Place:
    """Make an operator's folder: settings, keys, certificates and an empty list of devices.

    Raises:
        InputError: The folder is there already and not empty, which is left as it is; or a name
            or the port cannot be used.
    """
    settings = FederationSettings(name=name), GatewaySettings(names=tuple(names), port=port)
    folder = folder.absolute()
    _require_speakable(folder)
    _require_free(folder)
    scratch = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    try:
        scratch.mkdir(mode=SECRET_FOLDER, parents=True)
        _fill(Place(scratch), *settings, now)
        scratch.rename(folder)  # replaces an empty folder, and fails on any other
    except OSError as error:
        _require_free(folder)
        raise InputError(f"{folder} cannot be made: {error.strerror}.") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Place(folder)


def existing(folder: Path) -> Place:
    """The operator's folder at this path, with nobody else able to read its keys.

    Raises:
        InputError: There is none, or others can read a key.
    """
    _require_speakable(folder.absolute())
    place = Place(folder.absolute())
    if not place.settings_file.is_file() or not place.keys.is_dir():
        hint = f"Make one with `privity-server init {quote(str(folder))}`."
        raise InputError(f"{folder} is not an operator's folder.", hint)
    for file in sorted(place.keys.glob("*.key")):
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            problem = f"Others than its owner can use {file} (mode {mode:o})."
            raise InputError(problem, f"Run `chmod 600 {file}`, and consider it known to them.")
    return place


def _fill(
    place: Place,
    federation: FederationSettings,
    gateway: GatewaySettings,
    now: datetime | None,
) -> None:
    for part in (place.keys, place.federation, place.log):
        part.mkdir(mode=SECRET_FOLDER)
    _write(place.settings_file, text(federation, gateway).encode())
    place.settings()  # what every command will read can be read
    authority = certificates.new_authority(federation.name, now)
    _write(place.ca_key, authority.key_pem())
    _write(place.ca_certificate, authority.certificate_pem())
    place.renew(gateway.names, now)
    keep_authority(place.federation, authority_key(place.keys).public_key())
    place.enrolment_file.touch(SECRET_FILE)
    place.enrolment().close()


def _require_speakable(folder: Path) -> None:
    """Flower's database has an address in UTF-8, which every name but these can be part of."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        problem = f"The name of {str(folder).encode(errors='replace').decode()} is not UTF-8."
        raise InputError(problem, "Name another folder, or rename this one.") from None


def _require_free(folder: Path) -> None:
    try:
        taken = folder.is_symlink() or (folder.exists() and any(folder.iterdir()))
    except NotADirectoryError:
        taken = True
    if taken:
        hint = "Give another place, or use what is there; nothing was changed."
        raise InputError(f"{folder} exists already.", hint)


def _keyed(certificate: Path, key: Path) -> Keyed:
    try:
        return certificates.load(certificate.read_bytes(), key.read_bytes())
    except OSError as error:
        problem = f"{error.filename} cannot be read: {error.strerror}."
        raise InputError(problem, "Restore keys/ from a copy.") from None


def _write(path: Path, content: bytes) -> None:
    """Put a file in place at once and for its owner alone."""
    scratch = path.with_name(f"{path.name}.partial")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SECRET_FILE)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    scratch.replace(path)
