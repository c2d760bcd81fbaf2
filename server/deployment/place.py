"""The operator's folder: where everything is, how it begins, and who may read it.

```
privity.toml            settings, edited by a person
keys/                   ca.key ca.crt · server.pem (certificate and key) · authority.key
enrolment.db            invites and devices
superlink.db            Flower's own
federation/             run-id, authority.pub, enrolment.log; server/: rounds, adapters, attempts
log/                    one log a person can read
```
Only its owner can read any of it. A new folder is filled beside its place and then renamed into
it, so that there is a whole one or none.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from shlex import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.enrolment import fingerprints
from common.enrolment.protocol import Authorities
from common.errors import InputError
from common.rounds.run_folder import (
    authority_key,
    keep_authority,
    kept_authority_key,
    kept_log,
    run_seed,
    trusted,
)
from common.settings import Settings
from common.system import files
from server.deployment import certificates
from server.deployment.certificates import Keyed
from server.deployment.privity_toml import (
    FederationSettings,
    GatewaySettings,
    OperatorSettings,
    host_for,
    load,
    text,
)
from server.enrolment.enrolment import Enrolment


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
    def server_pem(self) -> Path:
        """The certificate of gateway and SuperLink and its key, in one PEM file.

        One, so that whoever reads while it is renewed has a pair that belongs together.
        """
        return self.keys / "server.pem"

    @property
    def desk_socket(self) -> Path:
        """Where the enrolment desk is asked."""
        return self.folder / "desk.sock"

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
        """What the rounds left: run-id and server/, as common/rounds/run_folder.py has it."""
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
        return self.settings().run.but(seed=run_seed(self.federation))

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
        return certificates.load(_read(self.ca_certificate), _read(self.ca_key))

    def server(self) -> Keyed:
        """The server certificate and its key.

        Raises:
            InputError: It is missing or damaged.
        """
        content = _read(self.server_pem)
        return certificates.load(content, content)

    def authorities(self) -> Authorities:
        """The authorities that devices trust. No private key is read.

        Raises:
            InputError: What is public of an authority is missing or damaged.
        """
        pem = _read(self.ca_certificate)
        return Authorities(certificates.load_certificate(pem), trusted(self.federation))

    def fingerprint(self) -> str:
        """What devices are told with their invite: `AB:CD:…`, of both authorities."""
        return fingerprints.spell(self.authorities().fingerprint())

    def enrolment(self) -> Enrolment:
        """The invites and devices; to be closed by who asked.

        A database that was restored from an older copy gets back what devices were shown since,
        before anybody writes into it: another log than the signed one no device would ever take.

        Raises:
            InputError: It is damaged, or its log is another one than was signed.
        """
        enrolment = Enrolment(self.enrolment_file)
        if signed := kept_log(self.federation):
            enrolment.restore_log(signed)
        return enrolment

    def renew(self, names: Iterable[str], now: datetime | None = None) -> bool:
        """Replace the server certificate where it ends within 30 days or has other names.

        A missing or damaged one is replaced too; the authority's never is. Returns whether it
        did.
        """
        authority = self.ca()
        try:
            fresh = certificates.renewed(self.server(), authority, names, now)
        except InputError:
            fresh = certificates.new_server(authority, names, now)
        if fresh is None:
            return False
        _write(self.server_pem, fresh.certificate_pem() + fresh.key_pem())
        for older in ("server.key", "server.crt"):  # where older versions kept them
            (self.keys / older).unlink(missing_ok=True)
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
    names = tuple(one.removeprefix("[").removesuffix("]") for one in names)  # as in an address
    gateway = GatewaySettings(host_for(names), port, names)
    settings = FederationSettings(name=name), gateway
    folder = folder.absolute()
    _require_speakable(folder)
    _require_free(folder)
    try:
        with files.new_folder(folder, mode=files.PRIVATE_FOLDER) as scratch:
            _fill(Place(scratch), *settings, now)
    except OSError as error:
        _require_free(folder)
        raise InputError(f"{folder} cannot be made: {error.strerror}.") from None
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
    for file in sorted([*place.keys.glob("*.key"), *place.keys.glob("*.pem")]):
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
        part.mkdir(mode=files.PRIVATE_FOLDER)
    _write(place.settings_file, text(federation, gateway).encode())
    place.settings()  # what every command will read can be read
    authority = certificates.new_authority(federation.name, now)
    _write(place.ca_key, authority.key_pem())
    _write(place.ca_certificate, authority.certificate_pem())
    place.renew(gateway.names, now)
    keep_authority(place.federation, authority_key(place.keys).public_key())
    place.enrolment_file.touch(files.PRIVATE)
    place.enrolment().close()


def _require_speakable(folder: Path) -> None:
    """Flower's database has an address in UTF-8, which every name but these can be part of."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        problem = f"The name of {str(folder).encode(errors='replace').decode()} is not UTF-8."
        raise InputError(problem, "Name another folder, or rename this one.") from None


def _require_free(folder: Path) -> None:
    if files.is_taken(folder):
        hint = "Give another place, or use what is there; nothing was changed."
        raise InputError(f"{folder} exists already.", hint)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        problem = f"{error.filename} cannot be read: {error.strerror}."
        raise InputError(problem, "Restore keys/ from a copy.") from None


def _write(path: Path, content: bytes) -> None:
    """Put a file in place at once and for its owner alone."""
    files.write(path, content, mode=files.PRIVATE)
