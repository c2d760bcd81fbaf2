"""Where the vault is, and how a command of a person's opens it."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import InputError

if TYPE_CHECKING:
    from client.vault.unlocking import Unlock
    from client.vault.vault import Vault

FILE_VARIABLE = "PRIVITY_PASSPHRASE_FILE"
LONGEST = 4096  # bytes of a passphrase


def home(options: argparse.Namespace) -> Path:
    """The device's folder: --home, else $PRIVITY_HOME, else by the XDG rules."""
    named = options.home or os.environ.get("PRIVITY_HOME")
    if named:
        return Path(named).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "privity"


def open_vault(options: argparse.Namespace, *, exclusive: bool = False) -> Vault:
    """Open the vault at home, by the keyring or by a passphrase, as it is kept.

    Raises:
        InputError: As `Vault.open` does.
    """
    from client.vault.vault import Vault

    return Vault.open(home(options), usual_unlock(options), exclusive=exclusive)


def usual_unlock(options: argparse.Namespace) -> Unlock:
    """What opens the vault at home.

    Raises:
        InputError: When there is no vault.
    """
    from client.vault.unlocking import PASSPHRASE, Keyring, Passphrase
    from client.vault.vault import read_header

    if read_header(home(options)).get("kept") == PASSPHRASE:
        return Passphrase(asking(options))
    return Keyring()


def ask_once(options: argparse.Namespace) -> str:
    """The passphrase of a vault that has one, else nothing; it is not asked for again.

    Raises:
        InputError: When there is no vault, or nobody to ask.
    """
    from client.vault.unlocking import PASSPHRASE
    from client.vault.vault import read_header

    if read_header(home(options)).get("kept") != PASSPHRASE:
        return ""
    options.asked = asking(options)(False)
    return str(options.asked)


def given(options: argparse.Namespace) -> bool:
    """Whether a file or descriptor with a passphrase was named."""
    named = options.passphrase_file, options.passphrase_fd, os.environ.get(FILE_VARIABLE)
    return any(place is not None for place in named)


def asking(options: argparse.Namespace) -> Callable[[bool], str]:
    """Where the passphrase comes from: a named file or descriptor, else the terminal.

    Raises:
        InputError: When both are named.
    """
    if asked := getattr(options, "asked", ""):
        return lambda _: str(asked)
    file, descriptor = options.passphrase_file, options.passphrase_fd
    if file is not None and descriptor is not None:
        problem = "--passphrase-file and --passphrase-fd contradict each other."
        raise InputError(problem, "Give one of them.")
    if descriptor is not None:
        return lambda _: _from_descriptor(descriptor)
    file = file if file is not None else os.environ.get(FILE_VARIABLE)
    return from_terminal if file is None else lambda _: from_file(Path(file))


def from_file(file: Path) -> str:
    """The passphrase in a file, without the line's end.

    Raises:
        InputError: When it cannot be read, or others could read it too.
    """
    try:
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno())
            if stat.S_ISREG(mode.st_mode) and mode.st_uid == os.getuid() and mode.st_mode & 0o077:
                raise InputError(f"{file} is open to others.", f"`chmod 600 {file}`.")
            return _line(stream.read(LONGEST + 1), str(file))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.") from error


def _from_descriptor(descriptor: int) -> str:
    try:
        with os.fdopen(descriptor, "rb") as stream:
            return _line(stream.read(LONGEST + 1), f"file descriptor {descriptor}")
    except (OSError, ValueError, OverflowError):
        raise InputError(f"File descriptor {descriptor} cannot be read.") from None


def _line(content: bytes, where: str) -> str:
    line, _, rest = content.partition(b"\n")
    line = line.removesuffix(b"\r")
    if not line or rest.strip() or len(content) > LONGEST:
        problem = f"A passphrase must be one line of at most {LONGEST} bytes; {where} holds no such"
        raise InputError(f"{problem} line.")
    return line.decode("utf-8", "surrogateescape")


def from_terminal(new: bool) -> str:
    """Ask for the passphrase; for a new one twice.

    Raises:
        InputError: When there is no terminal, or the two differ.
    """
    import getpass

    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        problem = "The vault needs a passphrase, and there is no terminal to ask for it."
        hint = f"Name a file with --passphrase-file or {FILE_VARIABLE}."
        raise InputError(problem, hint) from None
    try:
        if not new:
            return getpass.getpass("Passphrase: ")
        passphrase = getpass.getpass("New passphrase: ")
        if getpass.getpass("Again: ") != passphrase:
            raise InputError("The two passphrases differ.", "Nothing was changed; try again.")
    except EOFError:
        raise InputError("No passphrase was given.") from None
    except UnicodeError:
        problem = "What was typed is not text in this terminal's encoding."
        raise InputError(problem, "Name a file with --passphrase-file.") from None
    return passphrase
