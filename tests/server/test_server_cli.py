"""What an operator may get wrong: one clear sentence, exit code 2, no traceback."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.x509 import IPAddress, SubjectAlternativeName

from client.federation.joining import read_url
from common.errors import InputError
from server.cli import main
from server.deployment.place import Place, create, existing
from server.registry.goal import Plan, making_rounds, one_round, read_plan, write_plan


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return create(tmp_path / "ours")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = main(list(arguments))
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert said.err.startswith("privity-server: ") and said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize("port", ["99999", "-1", "65536"])
def test_a_port_that_is_none_makes_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], port: str
) -> None:
    said = refusal(capsys, "init", str(tmp_path / "ours"), "--port", port)
    assert "[gateway] port" in said and port in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", ["0", "-3"])
def test_no_number_of_invites(place: Place, capsys: pytest.CaptureFixture[str], count: str) -> None:
    assert count in refusal(capsys, "invite", "--dir", str(place.folder), "--count", count)


def test_an_invite_needs_a_port_to_come_back_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = create(tmp_path / "any", port=0)
    assert "port = 0" in refusal(capsys, "invite", "--dir", str(place.folder))
    enrolment = place.enrolment()
    assert enrolment.invites() == []
    enrolment.close()


@pytest.mark.parametrize(
    "every", ["999999999999999999999d", "367d", "1e9d", "-1h", "9" * 400 + "s"]
)
def test_a_pace_that_is_none(place: Place, capsys: pytest.CaptureFixture[str], every: str) -> None:
    said = refusal(capsys, "run", "--dir", str(place.folder), "--no-wait", f"--every={every}")
    assert "--every" in said and len(said) < 200
    assert read_plan(place.federation) is None


@pytest.mark.parametrize(
    "damaged",
    ["", "{", "[]", "7", "{}", '{"until": "3"}', '{"until": 3, "more": 1}', '{"until": true}',
     '{"until": 3, "every_s": NaN}', '{"until": 3, "every_s": "1h"}', "[" * 100_000, "\udcff"],
)  # fmt: skip
def test_a_damaged_plan(place: Place, capsys: pytest.CaptureFixture[str], damaged: str) -> None:
    file = place.federation / "plan.json"
    file.write_bytes(damaged.encode(errors="surrogateescape"))
    assert "plan.json is damaged" in refusal(capsys, "status", "--dir", str(place.folder))
    assert main(["run", "--dir", str(place.folder), "--rounds", "2", "--no-wait"]) == 0
    assert read_plan(place.federation) == Plan(2)


def torn(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


def overwritten(file: Path) -> None:
    file.write_bytes(b"no database at all" * 500)


@pytest.mark.parametrize("spoil", [torn, overwritten])
def test_a_damaged_list_of_devices(
    place: Place, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], None]
) -> None:
    spoil(place.enrolment_file)
    for arguments in (("invite",), ("devices",), ("revoke", "7")):
        said = refusal(capsys, *arguments, "--dir", str(place.folder))
        assert "enrolment.db is damaged" in said


def test_a_damaged_authority(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.keys / "authority.key").write_bytes(b"short")
    assert main(["up", "--dir", str(place.folder)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]  # before it are the log's lines
    assert last.startswith("privity-server: ") and "authority.key is damaged" in last


def test_a_round_is_being_made_only_while_it_is(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who makes rounds also waits for devices, and between rounds."""

    def said() -> str:
        assert main(["status", "--dir", str(place.folder)]) == 0
        return capsys.readouterr().out

    write_plan(place.federation, Plan(2))
    with making_rounds(place.federation):
        assert "is being made" not in said()
        with one_round(place.federation):
            assert "a round is being made" in said()


@pytest.mark.parametrize("typed", ["::1", "[::1]"])
def test_the_invite_of_a_federation_on_ipv6_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], typed: str
) -> None:
    """It has brackets, a certificate for the address, and something that listens there."""
    folder = str(tmp_path / "six")
    assert main(["init", folder, "--host", typed]) == 0
    assert main(["invite", "--dir", folder]) == 0
    words = capsys.readouterr().out.splitlines()[-1].split()
    assert read_url(words[2]) == words[2] == "https://[::1]:8443"
    assert urlsplit(words[2]).hostname == "::1"
    made = existing(Path(folder))
    assert made.settings().gateway.host == "::"
    names = made.server().certificate.extensions.get_extension_for_class(SubjectAlternativeName)
    assert IPv6Address("::1") in names.value.get_values_for_type(IPAddress)


def test_a_name_that_nothing_listens_for_is_refused(place: Place) -> None:
    file = place.settings_file
    file.write_text(file.read_text().replace("names = []", 'names = ["2001:db8::7"]'))
    with pytest.raises(InputError, match="2001:db8::7 is an IPv6 address") as caught:
        place.settings()
    assert 'host = "::"' in caught.value.hint
