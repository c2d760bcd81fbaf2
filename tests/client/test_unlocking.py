"""Keyrings that raise or answer what they like: one sentence, and no vault without its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client.vault.unlocking import Keyring
from client.vault.vault import Vault
from common.errors import InputError


class Ring:
    """A keyring in memory."""

    priority: Any = 5

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Any] = {}

    def set_password(self, service: str, user: str, secret: str) -> None:
        self.kept[service, user] = secret

    def get_password(self, service: str, user: str) -> Any:
        return self.kept.get((service, user))

    def delete_password(self, service: str, user: str) -> None:
        del self.kept[service, user]


class DBusError(Exception):
    """What a back end has of its own; its text quotes what it was given."""


def raising(error: BaseException) -> Any:
    def call(*_: Any) -> Any:
        raise error

    return call


ERRORS = [
    DBusError("the key"), RuntimeError("the key"), OSError(5, "the key"), KeyError("the key"),
    ImportError("the key"), UnicodeDecodeError("utf-8", b"the key", 0, 1, "x"), AssertionError(),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("call", ["set_password", "get_password"])
def test_whatever_it_raises_is_one_sentence_without_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: Exception
) -> None:
    ring = Ring()
    monkeypatch.setattr(ring, call, raising(error))
    with pytest.raises(InputError, match=f"keyring refused .{type(error).__name__}") as caught:
        Vault.create(tmp_path / "home", Keyring(ring))
    assert "the key" not in str(caught.value)
    assert not (tmp_path / "home" / "vault.db").exists()


def test_one_that_cannot_even_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyring.get_keyring", raising(DBusError()))
    with pytest.raises(InputError, match="keyring refused"):
        Vault.create(tmp_path / "home", Keyring())


def test_one_that_keeps_nothing_makes_no_vault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the vault's key would be lost with the process."""
    ring = Ring()
    monkeypatch.setattr(ring, "set_password", lambda *_: None)
    with pytest.raises(InputError, match=r"did not keep.*init --passphrase"):
        Vault.create(tmp_path / "home", Keyring(ring))
    assert not (tmp_path / "home" / "vault.db").exists()


@pytest.mark.parametrize("answer", [7, b"\xff", "é", "", "AAAA", ["AAAA"]])
def test_what_is_no_key_is_told(tmp_path: Path, answer: Any) -> None:
    ring = Ring()
    Vault.create(tmp_path / "home", Keyring(ring)).close()
    ring.kept = dict.fromkeys(ring.kept, answer)
    with pytest.raises(InputError, match="is not this vault's"):
        Vault.open(tmp_path / "home", Keyring(ring))


def test_a_header_without_an_end_is_damaged(tmp_path: Path) -> None:
    Vault.create(tmp_path / "home", Keyring(Ring())).close()
    (tmp_path / "home/vault.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="is damaged"):
        Vault.open(tmp_path / "home", Keyring(Ring()))
