"""A vault that was restored from a backup does not start again at the ε of then."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import keyring
import pytest

from client.cli import main
from client.federation.policy import Asked
from client.federation.service import Service
from client.vault import unlocking, watermark
from client.vault.ledger import Charge, Spent
from client.vault.unlocking import Cost, Passphrase
from client.vault.vault import Vault
from common.errors import DeclinedError
from common.privacy.accountant import Release

WORDS = "correct horse battery"


@pytest.fixture(autouse=True)
def _person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlocking, "DEFAULT_COST", Cost(1, 8, 1))
    file = tmp_path / "passphrase"
    file.touch(0o600)
    file.write_text(f"{WORDS}\n")
    monkeypatch.setenv("PRIVITY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PRIVITY_PASSPHRASE_FILE", str(file))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert main(["init"]) == 0


def opened(tmp_path: Path) -> Vault:
    return Vault.open(tmp_path / "home", Passphrase(lambda _: WORDS))


def charged(number: int, epsilon: float, sigma: float = 1.5) -> Charge:
    release, spent = Release(sigma, 1.0, 1), Spent(epsilon, 1e-5)
    figure, count = Release(9.0, 1.0, 1), Release(5 * sigma, 1.0, 1)
    return Charge("run", number, 0, release, 0.25, "aa", spent, spent, figure, "bb", count)


def spend(tmp_path: Path, *charges: Charge) -> None:
    with opened(tmp_path) as vault:
        for one in charges:
            vault.store.ledger.charge(one)
        watermark.keep(vault)


def back_up(tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "home", tmp_path / "backup")


def restore(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "home")
    shutil.copytree(tmp_path / "backup", tmp_path / "home")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_a_restored_backup_declines_until_its_ledger_is_recounted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spend(tmp_path, charged(1, 2.0))
    back_up(tmp_path)
    spend(tmp_path, charged(2, 3.0), charged(3, 4.0, sigma=1.7))
    with opened(tmp_path) as vault:
        true, rhos = (
            sorted(map(repr, vault.store.ledger.releases())),
            vault.store.ledger.user_rhos(),
        )
        assert watermark.reason(vault) == []
    restore(tmp_path)
    with opened(tmp_path) as vault:
        asked = Asked(6, 4.0, 1.0, 1, "smollm2-135m", 1e-5, 1e-5)
        with pytest.raises(DeclinedError, match="forgotten 2 releases"):
            Service(vault, threading.Event())._consent(asked)
        watermark.keep(vault)  # nothing is unmarked by a vault that went back
        vault.store.put("round/3", b"keys")
    assert "all declined: This vault's ledger has forgotten 2" in said(capsys, "status")
    assert "2.00 before, 4.00 now" in said(capsys, "recount")
    with opened(tmp_path) as vault:
        assert sorted(map(repr, vault.store.ledger.releases())) == true
        assert sorted(vault.store.ledger.user_rhos()) == sorted(rhos)
        assert vault.store.ledger.spent("user") == Spent(4.0, 1e-5)
        assert watermark.reason(vault) == []
        assert vault.store.get("round/3") is None  # its keys may have been used since
    assert "Nothing is missing" in said(capsys, "recount")
    assert "forgotten" not in said(capsys, "status")
    restore(tmp_path)  # and again
    assert "4.00 now" in said(capsys, "recount")


def test_a_backup_from_before_the_first_round_does_not_begin_at_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    back_up(tmp_path)
    spend(tmp_path, charged(1, 2.0))
    restore(tmp_path)
    assert "0.00 before, 2.00 now" in said(capsys, "recount")


def test_what_was_charged_since_and_what_was_forgotten_add_up(tmp_path: Path) -> None:
    """Somebody deleted the mark, or another machine had it, and rounds went on meanwhile."""
    back_up(tmp_path)
    spend(tmp_path, charged(1, 2.0))
    restore(tmp_path)
    with opened(tmp_path) as vault:
        vault.store.ledger._clock = lambda: 5.0
        vault.store.ledger.charge(charged(1, 3.0, sigma=1.1))
        assert watermark.recount(vault) == 2
        assert vault.store.ledger.spent("record") == Spent(5.0, 1e-5)
        assert len(vault.store.ledger.trainings()) == len(vault.store.ledger.user_rhos()) == 2


def test_a_new_vault_is_told_what_another_has_spent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Another vault" not in said(capsys, "--home", str(tmp_path / "second"), "init")
    spend(tmp_path, charged(1, 2.5))
    assert "has spent ε 2.50" in said(capsys, "--home", str(tmp_path / "third"), "init")


class Ring:
    """A keyring that works, or raises what it likes."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.error = error

    def set_password(self, service: str, name: str, value: str) -> None:
        if self.error:
            raise self.error
        self.kept[service, name] = value

    def get_password(self, service: str, name: str) -> str | None:
        if self.error:
            raise self.error
        return self.kept.get((service, name))


@pytest.mark.parametrize("error", [None, RuntimeError("no bus"), OSError("locked")])
def test_the_keyring_outlives_the_file_and_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | None
) -> None:
    ring = Ring(error)
    monkeypatch.setattr(keyring, "set_password", ring.set_password)
    monkeypatch.setattr(keyring, "get_password", ring.get_password)
    monkeypatch.setattr(Vault, "kept", "keyring")
    back_up(tmp_path)
    spend(tmp_path, charged(1, 2.0))
    shutil.rmtree(tmp_path / "state")
    restore(tmp_path)
    with opened(tmp_path) as vault:
        assert bool(watermark.reason(vault)) is (error is None)


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"version": 9}', "[" * 9000, "\udcff"])
def test_a_damaged_mark_marks_nothing_and_stops_nobody(tmp_path: Path, content: str) -> None:
    spend(tmp_path, charged(1, 2.0))
    (file,) = watermark.folder().glob("*.json")
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o077) == (0o600, 0)
    file.write_bytes(content.encode(errors="surrogateescape"))
    with opened(tmp_path) as vault:
        assert watermark.reason(vault) == []
        watermark.keep(vault)
    assert watermark.others() == [Spent(2.0, 1e-5)]


def test_a_mark_holds_figures_only(tmp_path: Path) -> None:
    spend(tmp_path, charged(1, 2.0))
    (file,) = watermark.folder().glob("*.json")
    for word in ("run", "aa", "bb"):
        assert f'"{word}"' not in file.read_text()


def test_a_charge_is_marked_before_the_answer_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from common.settings import Settings

    with opened(tmp_path) as vault:
        person = Service(vault, threading.Event())
        monkeypatch.setattr(Service, "_of", lambda *_: vault)
        context: Any = None
        with pytest.raises(RuntimeError), person._device(Settings(), context):
            vault.store.ledger.charge(charged(1, 2.0))
            raise RuntimeError("in training")
        assert watermark.others() == [Spent(2.0, 1e-5)]
