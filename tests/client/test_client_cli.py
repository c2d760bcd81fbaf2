"""`privity-client` as a person uses it: sentences, exit codes, and nothing private in errors."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deployment import wait_for
from made_up_people import write_people

from client.cli import main
from client.commands.uploads import listing, summary
from client.federation import membership
from client.federation.joining import Membership
from client.vault import unlocking
from client.vault.ledger import Charge, Spent
from client.vault.store import Store, Upload
from client.vault.unlocking import Cost, Passphrase
from client.vault.vault import Vault
from common.privacy.accountant import Release, epsilon

WORDS = "correct horse battery"
COUNT = Release(7.5, 1.0, 1)
RUN = [sys.executable, "-c", "import sys; from client.cli import main; sys.exit(main())"]


@pytest.fixture(autouse=True)
def _person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlocking, "DEFAULT_COST", Cost(1, 8, 1))
    file = tmp_path / "passphrase"
    file.touch(0o600)
    file.write_text(f"{WORDS}\n")
    monkeypatch.setenv("PRIVITY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PRIVITY_PASSPHRASE_FILE", str(file))


@pytest.fixture
def vault(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 0
    capsys.readouterr()


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("privity-client: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def opened(tmp_path: Path) -> Vault:
    return Vault.open(tmp_path / "home", Passphrase(lambda _: WORDS))


@pytest.mark.usefixtures("vault")
def test_tagged_sentences_come_in_as_conll_has_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "mine.conll"
    file.write_text("Anna\tI-PER\nruns\tO\n\nRome\tB-LOC\n")
    assert "2 records are new" in said(capsys, "import", str(file))
    assert "2 tagged" in said(capsys, "status")
    file.write_text("Anna\tperson\n")
    assert "line 1: not a token and a tag" in refusal(capsys, "import", str(file))


def test_the_first_day(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = write_people(tmp_path / "people", 1, answers=3)
    file = str(data / "person000.jsonl")
    assert str(tmp_path / "home") in said(capsys, "init")
    assert "6 records are new, 0 were there" in said(capsys, "import", file)
    assert "0 records are new, 6 were there" in said(capsys, "import", file)
    status = said(capsys, "status")
    for words in (
        "by passphrase",
        "6 message",
        "answers     3,",
        "federation  none",
        "none is running",
        "ε 0.00",
    ):
        assert words in status
    assert said(capsys, "uploads") == "Nothing has left this device.\n"
    with opened(tmp_path) as vault:
        assert vault.records.counts() == {"message": 6}
    assert main(["init"]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("status",), ["no vault", "privity-client init"]),
        (("import", "/no/such/file"), ["no vault"]),
        ((), ["required", "--help"]),
        (("dance",), ["dance", "--help"]),
        (("import",), ["PATH"]),
        (("policy", "--set", "hours"), ["'hours'", "NAME=VALUE"]),
        (("policy", "--set", "least_cohort=2"), ["least_cohort", "at least 3"]),
        (("status", "--passphrase-fd", "x"), ["--passphrase-fd", "'x'"]),
        (("init", "--passphrase-fd", "3", "--passphrase-file", "x"), ["contradict"]),
        (("init", "--passphrase-fd", "999"), ["descriptor 999"]),
        (("init", "--passphrase-file", "/no/such"), ["/no/such", "No such file"]),
        (("init", "--home", "/dev/null"), ["/dev/null"]),
    ],
)
def test_what_cannot_work_is_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: list[str]
) -> None:
    message = refusal(capsys, *arguments)
    assert all(word in message for word in words)


@pytest.mark.usefixtures("vault")
def test_a_wrong_passphrase(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text("incorrect horse battery")
    message = refusal(capsys, "status")
    assert "Wrong passphrase" in message
    assert "incorrect" not in message


@pytest.mark.parametrize("content", ["", "\n", "two\nlines", "x" * 5000])
def test_files_that_hold_no_passphrase(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str
) -> None:
    (tmp_path / "passphrase").write_text(content)
    message = refusal(capsys, "init")
    assert "one line" in message
    assert "lines" not in message.replace("one line", "")


def test_a_passphrase_file_open_to_others_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "passphrase").chmod(0o644)
    assert "chmod 600" in refusal(capsys, "init")


def test_without_a_keyring_a_passphrase_is_offered(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from keyring.backends import fail

    monkeypatch.delenv("PRIVITY_PASSPHRASE_FILE")
    monkeypatch.setattr("keyring.get_keyring", fail.Keyring)
    assert "init --passphrase" in refusal(capsys, "init")


@pytest.mark.usefixtures("vault")
def test_the_good_part_of_a_file_comes_in_and_the_rest_is_listed_and_not_quoted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text('{"kind": "fact", "text": "rosebush"}\n')
    bad.write_text('{"kind": "fact", "text": "chapel"}\n{"kind": "fact", "text": 7}\n')
    told = said(capsys, "import", str(good), str(bad), str(good))
    assert told.count("1 records are new") == 2
    assert "line 2: 'text' is a int, wanted str." in told
    assert "rosebush" not in told and "chapel" not in told
    with opened(tmp_path) as vault:
        assert vault.records.counts() == {"fact": 2}


@pytest.mark.usefixtures("vault")
def test_options_stand_before_or_after_the_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = str(tmp_path / "home")
    monkeypatch.setenv("PRIVITY_HOME", str(tmp_path / "elsewhere"))
    assert home in said(capsys, "--home", home, "status")
    assert home in said(capsys, "status", "--home", home)
    assert "elsewhere" in refusal(capsys, "status")


def test_the_default_place_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    import argparse

    from client.vault.home import home

    monkeypatch.delenv("PRIVITY_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert home(argparse.Namespace(home=None)) == Path("/data/privity")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert home(argparse.Namespace(home=None)) == Path.home() / ".local/share/privity"


@pytest.mark.usefixtures("vault")
def test_the_policy_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "policy", "--set", "hours=22:00-07:00", "only-idle=yes")
    assert "hours=22:00-07:00 " in shown
    assert said(capsys, "policy") == shown
    refusal(capsys, "policy", "--set", "only_idle=no", "least_cohort=1")
    assert said(capsys, "policy") == shown
    said(capsys, "policy", "--set", "models=a, b", "--set", "record_epsilon=none")
    shown = said(capsys, "policy")
    for setting in ("models=a,b ", "record_epsilon=none ", "only_idle=yes ", "least_cohort=6 "):
        assert setting in shown


@pytest.mark.usefixtures("vault")
def test_status_says_why_rounds_are_declined(capsys: pytest.CaptureFixture[str]) -> None:
    now = time.localtime()
    later = [(now.tm_hour + hours) % 24 for hours in (2, 3)]
    said(capsys, "policy", "--set", f"hours={later[0]:02d}:00-{later[1]:02d}:00")
    assert "declined now: It is " in said(capsys, "status")


@pytest.mark.usefixtures("vault")
def test_status_tells_of_the_running_process_and_the_federation(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with Vault.open(tmp_path / "home", Passphrase(lambda _: WORDS), exclusive=True) as vault:
        authority = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        joined = Membership("https://example.org", b"", 77, b"", authority, "village")
        membership.keys(vault.store)
        membership.keep(vault.store, joined)
        notes = {"pid": os.getpid(), "connected": True, "round": 4}
        (tmp_path / "home/status.json").write_text(json.dumps(notes))
        status = said(capsys, "status")
        place = "village at https://example.org"
        for words in (f"{os.getpid()} is running", "connected", place, "enrolled"):
            assert words in status
        (tmp_path / "home/status.json").write_text("{")
        assert "is running" in said(capsys, "status")
    assert "none is running" in said(capsys, "status")


def sent(store: Store) -> None:
    release = Release(1.5, 0.5, 3)
    store.journal(Upload("run-of-seven", 1, 0, "advertise", 300))
    spent = Spent(1.25, 1e-5), Spent(float("inf"), 1e-6)
    store.ledger.charge(
        Charge("run-of-seven", 1, 0, release, float("inf"), "aa", *spent, count=COUNT)
    )
    store.journal(Upload("run-of-seven", 1, 0, "update", 40_000))
    store.journal(Upload("run-of-seven", 1, 0, "update again", 40_000))
    spent = Spent(2.5, 1e-5), Spent(float("inf"), 1e-6)
    store.ledger.charge(
        Charge("run-of-seven", 2, 0, release, float("inf"), "aa", *spent, count=COUNT)
    )


@pytest.mark.usefixtures("vault")
def test_uploads_lists_everything_that_left(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with opened(tmp_path) as vault:
        vault.store.put("federation", b'{"name": "village"}')
        sent(vault.store)
    lines = said(capsys, "uploads").splitlines()
    assert lines[0].split("  ")[0] == "when"
    keys, update, again = lines[1:4]
    assert "village" in keys
    assert keys.endswith(" 300")
    assert update.split()[-3:] == ["40,000", "1.25", "infinite"]
    assert again.endswith("40,000")
    text = "\n".join(lines[4:])
    for words in ("3 messages", "80,300 bytes", "ε = 2.50", "δ = 1e-05", "not bounded", "1 update"):
        assert words in text
    found = json.loads(said(capsys, "uploads", "--json"))
    assert [row["bytes"] for row in found["uploads"]] == [300, 40_000, 40_000]
    assert [row["record_epsilon"] for row in found["uploads"]] == [None, 1.25, None]
    assert found["user"] == {"epsilon": "infinite", "delta": 1e-6}
    alone = epsilon([Release(1.5, 0.5, 6), COUNT, COUNT], 1e-5)
    assert 2 * alone < found["record_message"]["epsilon"] < 6 * alone
    assert f"ε = {found['record_message']['epsilon']:.2f}" in text
    assert found["charged_but_not_sent"] == 1


def test_uploads_of_an_older_version_say_what_is_not_known(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "device.db")
    store.ledger.charge(Charge("run", 1, 0, Release(1.5, 0.5, 3), 0.1, "aa"))
    store.journal(Upload("run", 1, 0, "update", 4))
    found = listing(store)
    assert found["uploads"][0]["record_epsilon"] is None
    assert "an older version" in summary(found)
    store.close()


def test_a_simulated_devices_journal_shows_what_its_rounds_cost(
    run: Any, people: Path, tmp_path: Path
) -> None:
    """The ε noted when charging is the one that the run's report computes from the whole ledger."""
    report = run(people, "run", "--personal-epochs", "0")
    store = Store.open(tmp_path / "run/devices/00000.db")
    found = listing(store)
    store.close()
    updates = [row for row in found["uploads"] if row["what"] == "update"]
    assert [row["round"] for row in updates] == [1, 2]
    assert 0 < updates[0]["record_epsilon"] < updates[1]["record_epsilon"]
    assert found["record"]["epsilon"] == report["privacy"]["record"]["epsilon"]
    assert found["record"]["delta"] == report["privacy"]["record"]["delta"]
    assert found["user"]["epsilon"] == "infinite"
    assert found["messages"] == 12
    assert found["charged_but_not_sent"] == 0
    assert all(row["at"] for row in found["uploads"])


@pytest.mark.usefixtures("vault")
def test_keys_that_another_invite_enrolled_are_made_anew(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a join whose answer was lost, or a leaving that was interrupted."""
    from client.federation import joining
    from client.federation.joining import KnownKeysError, Membership
    from common.enrolment.offer import Offer
    from common.settings import Settings

    shown: list[bytes] = []

    def join(url: str, code: str, fingerprint: str, device: Any, *_: Any, journal: Any) -> Any:
        journal("enrol", 500)
        shown.append(device.public_key().public_bytes_raw())
        if len(shown) == 1:
            raise KnownKeysError("A key of this device is enrolled already.")
        return Membership(url, b"", 7, b"", b"", "village")

    monkeypatch.setattr(joining, "join", join)
    monkeypatch.setattr(joining, "offered", lambda *_: Offer("village", Settings()))
    invite = ("https://village:1", "CODE", "--ca-fingerprint", "AB", "--no-start")
    assert "member 7 of 'village'" in said(capsys, "join", *invite)
    assert len(set(shown)) == 2
    assert "invite code and public keys" in said(capsys, "uploads")
    with opened(tmp_path) as vault:
        assert [upload.what for upload in vault.store.uploads()] == ["enrol", "enrol"]
    assert "already" in refusal(capsys, "join", *invite)


@pytest.mark.usefixtures("vault")
def test_a_new_passphrase(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.touch(0o600)
    new.write_text("staple in the haystack")
    said(capsys, "passphrase", "--new-passphrase-file", str(new))
    assert "Wrong passphrase" in refusal(capsys, "status")
    said(capsys, "status", "--passphrase-file", str(new))


@pytest.mark.usefixtures("vault")
def test_a_passphrase_from_a_file_descriptor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PRIVITY_PASSPHRASE_FILE")
    reading, writing = os.pipe()
    os.write(writing, WORDS.encode())
    os.close(writing)
    said(capsys, "status", "--passphrase-fd", str(reading))


def at_terminal(*answers: str, arguments: list[str]) -> tuple[int, str]:
    """Run the command on a terminal of its own, where somebody types these lines."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.pop("PRIVITY_PASSPHRASE_FILE")
        os.execv(RUN[0], [*RUN, *arguments])
    heard = b""
    for answer in answers:
        while not heard.endswith(b": "):
            heard += os.read(terminal, 1000)
        heard += b"|"
        os.write(terminal, answer.encode() + b"\n")
    while True:
        try:
            more = os.read(terminal, 1000)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not more:
            break
        heard += more
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), heard.decode()


def test_a_passphrase_typed_at_a_terminal_is_not_shown(tmp_path: Path) -> None:
    code, heard = at_terminal(WORDS, WORDS, arguments=["init", "--passphrase"])
    assert code == 0, heard
    assert WORDS not in heard
    code, heard = at_terminal(WORDS, arguments=["status"])
    assert code == 0, heard
    assert WORDS not in heard
    code, heard = at_terminal("wrong", arguments=["status"])
    assert code == 2
    assert "Wrong passphrase" in heard


def test_two_different_new_passphrases_make_no_vault(tmp_path: Path) -> None:
    code, heard = at_terminal(WORDS, "another", arguments=["init", "--passphrase"])
    assert code == 2
    assert "differ" in heard
    assert not (tmp_path / "home/vault.json").exists()


@pytest.mark.usefixtures("vault")
def test_without_a_terminal_it_says_where_to_put_the_passphrase() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PRIVITY_PASSPHRASE_FILE"}
    done = subprocess.run(
        [*RUN, "status"],
        env=environment,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "PRIVITY_PASSPHRASE_FILE" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("vault")
@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_the_service_file_names_vault_and_models(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
) -> None:
    """It may write to the vault and to the cache of models, which it may have to fill."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("PRIVITY_CACHE", str(tmp_path / "the models"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = said(capsys, "install-service", "--show")
    for words in ("start", "--foreground", str(tmp_path / "home"), str(tmp_path / "the models")):
        assert words in shown
    if platform == "linux":  # nothing that lies in the home folder is imported
        assert '" "-P" "-m" "client" "--home" ' in shown and "WorkingDirectory=/\n" in shown
        assert f'ReadWritePaths="{tmp_path / "home"}" "{tmp_path / "the models"}"' in shown
        assert f'Environment="PRIVITY_CACHE={tmp_path / "the models"}"' in shown
    assert not (tmp_path / "the models").exists()
    file = Path(said(capsys, "install-service").partition(" is written.")[0])
    assert file.read_text() == shown
    assert (tmp_path / "the models").is_dir()


def test_interrupted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Vault, "create", interrupted)
    assert main(["init"]) == 130
    assert "interrupted" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("slow", [False, True])
def test_a_bar_is_shown_for_what_takes_long_alone(
    monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    from client.learning import progress

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "PATIENCE_S", 0.01 if slow else 60)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.bar("Importing a.jsonl", 2) as step:
        step()
        if slow:
            wait_for(lambda: "Importing" in sys.stderr.getvalue(), 60, "the bar")  # type: ignore[attr-defined]
    assert ("Importing a.jsonl" in sys.stderr.getvalue()) is slow  # type: ignore[attr-defined]


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys\nfrom client.cli import main\n"
        "try:\n main([{}'--help'])\nexcept SystemExit: pass\n"
        "heavy = {{'torch', 'transformers', 'flwr', 'opacus', 'scipy', 'numpy', 'keyring',"
        " 'sqlcipher3', 'cryptography', 'argon2', 'rich'}} & set(sys.modules)\n"
        "sys.exit(f'imported {{heavy}}' if heavy else 0)"
    )
    for command in ("", "'uploads', ", "'policy', "):
        subprocess.run(
            [sys.executable, "-c", code.format(command)], check=True, capture_output=True
        )


@pytest.mark.usefixtures("vault")
def test_looking_at_uploads_needs_no_model_software() -> None:
    code = (
        "import sys\nfrom client.cli import main\nassert main(['uploads']) == 0\n"
        "assert main(['status']) == 0\n"
        "heavy = {'torch', 'transformers', 'flwr', 'opacus', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def with_labels(tmp_path: Path, task: str) -> Any:
    """A vault whose shared adapter gives labels: its head reads no more than a constant."""
    from client.learning import adapters
    from common.adapter.weights import Shared
    from common.learning.backbone import adapter_plans
    from common.settings import Settings

    labels = {"classify": "food|drink", "tag": "PER"}[task]
    bare = {"modules": "", "personal_modules": "", "model": "tiny-bert"}
    settings = Settings.of(task=task, labels=labels, **bare)
    plan = adapter_plans(settings)[0]
    head = plan.initial(plan.sent).reshape(-1, plan.sites[0].d_in)
    head[1, -1] = 4.0  # the second class, whatever is read
    with opened(tmp_path) as vault:
        adapters.keep_shared(vault.store, settings, Shared(plan, head.ravel()))
    return settings


@pytest.mark.usefixtures("vault")
def test_a_text_gets_its_label_and_names_their_kind(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_labels(tmp_path, "classify")
    assert said(capsys, "label", "a cup of tea") == "drink (98 %)\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n\ntwo\n"))
    assert said(capsys, "label", "-") == "drink (98 %)\n" * 2
    with_labels(tmp_path, "tag")
    assert said(capsys, "label", "Anna, Bela") == "[Anna PER] [, PER] [Bela PER]\n"


@pytest.mark.usefixtures("vault")
def test_how_sure_a_label_is_follows_what_held_out_texts_have_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The adapter says one label of everything, and is right in half of the cases."""
    with_labels(tmp_path, "classify")
    file = tmp_path / "mine.jsonl"
    lines = [
        {
            "kind": "example",
            "text": f"text {i}",
            "label": ("food", "drink")[i % 2],
            "split": "heldout",
        }
        for i in range(20)
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    said(capsys, "import", str(file))
    assert said(capsys, "label", "a cup of tea") == "drink (60 %)\n"


@pytest.mark.usefixtures("vault")
def test_a_personal_head_is_learnt_from_own_texts_and_used(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The shared adapter says `drink` of everything; this person eats only."""
    with_labels(tmp_path, "classify")
    lines = [
        {"kind": "example", "text": f"{i} loaves", "label": "food", "split": split}
        for i, split in enumerate(["train"] * 40 + ["heldout"] * 8)
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    said(capsys, "import", str(tmp_path / "mine.jsonl"))
    told = said(capsys, "train")
    assert "8 held-out texts, nats a text" in told
    assert "Kept: it improves held-out texts" in told
    assert said(capsys, "label", "a slice").startswith("food")


@pytest.mark.usefixtures("vault")
def test_the_assistant_does_not_speak_with_an_adapter_of_labels(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from client.learning import adapters

    assert "answered in words" in refusal(capsys, "label", "tea")
    with_labels(tmp_path, "tag")
    with opened(tmp_path) as vault:
        have = adapters.speaking(vault.store, "tiny")
    assert (have.settings.task.name, have.settings.model.name) == ("chat", "tiny")
    assert have.shared is None and have.personal is None


@pytest.mark.usefixtures("vault")
def test_what_is_exported_and_imported_elsewhere_is_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, away = tmp_path / "mine.jsonl", tmp_path / "away"
    mine.write_text(
        '{"kind": "fact", "text": "häuser"}\n{"kind": "fact", "text": "ok"}\n'
        '{"kind": "fact", "text": "ok"}\n'
        '{"kind": "rating", "item": "i", "title": "t", "value": 2, "at": "2026-01-01T10:00:00Z"}\n'
        '{"kind": "tagged", "tokens": ["a"], "tags": ["O"], "split": "heldout"}\n'
    )
    said(capsys, "import", str(mine))
    assert "5 records" in said(capsys, "export", str(away))
    assert away.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in away.iterdir()} == {0o600}
    assert {file.name for file in away.iterdir()} == {
        "records.jsonl",
        "policy.json",
        "uploads.json",
    }
    assert str(away) in refusal(capsys, "export", str(away))
    with opened(tmp_path) as vault:
        before = vault.records.all()
    monkeypatch.setenv("PRIVITY_HOME", str(tmp_path / "home2"))
    said(capsys, "init")
    assert "5 records are new" in said(capsys, "import", str(away / "records.jsonl"))
    with Vault.open(tmp_path / "home2", Passphrase(lambda _: WORDS)) as vault:
        assert [(r.kind, r.values, r.at, r.split) for r in vault.records.all()] == [
            (r.kind, r.values, r.at, r.split) for r in before
        ]


@pytest.mark.usefixtures("vault")
def test_one_file_that_cannot_be_read_keeps_no_other_of_a_folder_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.qif").write_text("!Type:Bank\nD1/1/24\nT1\nPx\n^\n")
    (folder / "b.txt").write_text("1/2/24, 10:00 - Anna: a\n3/4/24, 10:00 - Ben: b\n")
    (folder / "c.jsonl").write_text('{"kind": "fact", "text": "kept"}\n')
    (folder / "d.png").write_bytes(b"\x89PNG\x00")
    assert main(["import", str(folder), "--me", "Ben"]) == 2
    told = capsys.readouterr()
    assert told.err == "" and "--currency" in told.out and "--dates" in told.out
    assert "1 records are new" in told.out and "1 more files have no format" in told.out
    assert main(["import", str(folder), "--me", "Ben", "--json"]) == 2
    files = {Path(one["path"]).name: one for one in json.loads(capsys.readouterr().out)["files"]}
    assert [files[name]["format"] for name in sorted(files)] == ["qif", "whatsapp", "records", None]
    assert "--dates" in refusal(capsys, "import", str(folder / "b.txt"), "--me", "Ben")
    table = folder / "e.csv"
    table.write_text("date,payee,amount,currency\n2026-01-01,x,1,EUR\n2026-01-02,y,2,\n")
    told_last = said(capsys, "import", str(table))
    assert "1 records are new" in told_last and "from there on" in told_last
