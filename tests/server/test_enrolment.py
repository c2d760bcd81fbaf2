"""Enrolment: wire formats, invites and devices on disk, certificates, the operator's folder."""

from __future__ import annotations

import base64
import dataclasses
import json
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from hypothesis import given
from hypothesis import strategies as st

from common.enrolment import fingerprints
from common.enrolment.protocol import (
    MAX_BYTES,
    Authorities,
    EnrolAnswer,
    EnrolRequest,
    LeaveRequest,
    Refusal,
    new_code,
    read_code,
    spell_code,
)
from common.errors import DecodeError, InputError, PrivityError, ProtocolError
from common.rounds.run_folder import authority
from common.secagg import verify_certificate
from common.settings import Settings
from server.deployment import certificates, place, privity_toml
from server.deployment.up import up
from server.enrolment.desk import MAX_WRONG, Desk
from server.enrolment.enrolment import Enrolment, EnrolmentRefused

AUTHORITY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)


class Device:
    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.node = public_key_to_bytes(ec.generate_private_key(ec.SECP384R1()).public_key())

    def request(self, code: str) -> EnrolRequest:
        return EnrolRequest.signed(read_code(code), self.key, self.node)


class Flower:
    """Flower's registry of nodes: a known key is answered with its number."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, int] = {}
        self.gone: list[int] = []
        self.lock = threading.Lock()

    def register(self, node_key: bytes) -> int:
        with self.lock:
            return self.nodes.setdefault(node_key, 2**63 + len(self.nodes))

    def unregister(self, member: int) -> None:
        self.gone.append(member)


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def flower() -> Flower:
    return Flower()


@pytest.fixture
def enrolment(tmp_path: Path, clock: Clock) -> Enrolment:
    return Enrolment(tmp_path / "enrolment.db", clock)


# Wire formats


def test_code_is_read_however_it_is_typed() -> None:
    code = new_code()
    text = spell_code(code)
    assert [len(group) for group in text.split("-")] == [4] * 7
    for typed in (text, text.lower(), text.replace("-", ""), f" {text.replace('-', ' ')}\n"):
        assert read_code(typed) == code


@given(code=st.binary(min_size=16, max_size=16), at=st.integers(0, 27), by=st.integers(1, 31))
def test_a_slip_in_a_code_is_noticed(code: bytes, at: int, by: int) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    text = list(spell_code(code).replace("-", ""))
    text[at] = letters[(letters.index(text[at]) + by) % 32]
    try:
        read = read_code("".join(text))
    except InputError as error:
        assert "".join(text) not in str(error)
    else:  # one slip in about 4000 passes the check of 12 bits, and is another code
        assert read != code


def test_code_vector() -> None:
    """The spelling stays what it is: codes that were given out must be readable."""
    assert spell_code(bytes(range(16))) == CODE_VECTOR
    assert read_code(CODE_VECTOR) == bytes(range(16))


CODE_VECTOR = "AAAQ-EAYE-AUDA-OCAJ-BIFQ-YDIO-B6GD"  # its first 25 letters are plain base32


@pytest.mark.parametrize("text", ["", "A", "0" * 28, "A" * 28, "ÄÖÜ" * 9 + "A", "A" * 100_000])
def test_what_is_no_code(text: str) -> None:
    with pytest.raises(InputError):
        read_code(text)


def test_fingerprint_is_read_however_it_is_copied() -> None:
    digest = bytes(range(100, 132))
    shown = fingerprints.spell(digest)
    for text in (shown, shown.lower(), digest.hex(), f"SHA256:{shown}", f"sha256={digest.hex()} "):
        assert fingerprints.read(text) == digest
    for text in ("", digest.hex()[:-1], digest.hex() + "0", "zz" * 32, shown + ":00"):
        with pytest.raises(InputError):
            fingerprints.read(text)


def messages() -> list[Any]:
    device = Device()
    request = device.request(spell_code(new_code()))
    certificate = b"\x01" * 105
    return [
        request,
        EnrolAnswer(2**64 - 1, certificate, b"\x02" * 32, "Ours"),
        LeaveRequest.signed(7, 1_800_000_000, device.key),
        Refusal("No.", "Ask."),
    ]


@pytest.mark.parametrize("message", messages(), ids=lambda one: type(one).__name__)
def test_messages_survive_the_wire_and_nothing_else_does(message: Any) -> None:
    kind, data = type(message), message.encode()
    assert kind.decode(data) == message
    fields = json.loads(data)
    wrong: list[Any] = [fields | {"more": 1}, [fields], None, 1, "text"]
    wrong += [{key: value for key, value in fields.items() if key != gone} for gone in fields]
    wrong += [fields | {key: value} for key in fields for value in (None, [], {}, True, 1.5)]
    bodies = [json.dumps(one).encode() for one in wrong]
    twice = (
        data[:-1]
        + b", "
        + json.dumps({next(iter(fields)): fields[next(iter(fields))]}).encode()[1:]
    )
    bodies += [b"", b"\xff", data + b"x", data[:-1], b"[" * 10_000, b" " * MAX_BYTES + data, twice]
    for body in bodies:
        with pytest.raises(DecodeError):
            kind.decode(body)


@given(data=st.binary(max_size=200))
def test_noise_is_refused_as_such(data: bytes) -> None:
    for kind in (EnrolRequest, EnrolAnswer, LeaveRequest, Refusal):
        with pytest.raises(DecodeError):
            kind.decode(data)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 2),
        ("version", True),
        ("code", "A" * 28),
        ("device_key", base64.b64encode(b"\x01" * 31).decode()),
        ("device_key", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQF="),  # a second spelling
        ("proof", base64.b64encode(b"\x01" * 65).decode()),
        ("node_key", base64.b64encode(b"no key").decode()),
        ("node_key", base64.b64encode(b"-" * 513).decode()),
    ],
)
def test_one_wrong_field_is_enough(key: str, value: Any) -> None:
    fields = json.loads(Device().request(spell_code(new_code())).encode())
    with pytest.raises(DecodeError):
        EnrolRequest.decode(json.dumps(fields | {key: value}).encode())


def test_node_keys_of_other_kinds_are_refused() -> None:
    device = Device()
    p256 = public_key_to_bytes(ec.generate_private_key(ec.SECP256R1()).public_key())
    for node in (p256, device.node + b"\n", device.node.replace(b"\n", b"\r\n")):
        request = EnrolRequest.signed(new_code(), device.key, node)
        with pytest.raises(DecodeError):
            EnrolRequest.decode(request.encode())


def of_unknown_kind() -> bytes:
    """A well-formed public key of an algorithm that nobody knows, PEM."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    key = Ed25519PrivateKey.generate().public_key().public_bytes(serialization.Encoding.DER, form)
    text = base64.b64encode(key.replace(bytes.fromhex("2b6570"), bytes.fromhex("2b6579")))
    return b"-----BEGIN PUBLIC KEY-----\n" + text + b"\n-----END PUBLIC KEY-----\n"


def test_a_node_key_of_an_unknown_algorithm_counts_as_a_wrong_request(
    enrolment: Enrolment, flower: Flower
) -> None:
    desk = Desk(enrolment, AUTHORITY, "Ours", flower.register, flower.unregister)
    body = EnrolRequest.signed(new_code(), Device().key, of_unknown_kind()).encode()
    statuses = [desk.enrol(body, "there").status for _ in range(MAX_WRONG + 1)]
    assert statuses == [400] * MAX_WRONG + [429]


def test_an_authority_of_an_unknown_algorithm_is_refused() -> None:
    tls = certificates.new_authority("Ours").certificate_pem()
    with pytest.raises(DecodeError, match="Not a certificate and a key"):
        Authorities.decode(tls + of_unknown_kind())


def test_an_operators_key_of_an_unknown_algorithm_is_refused() -> None:
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key = Ed25519PrivateKey.generate().private_bytes(serialization.Encoding.DER, form, plain)
    text = base64.b64encode(key.replace(bytes.fromhex("2b6570"), bytes.fromhex("2b6579")))
    pem = b"-----BEGIN PRIVATE KEY-----\n" + text + b"\n-----END PRIVATE KEY-----\n"
    with pytest.raises(InputError, match="key cannot be read"):
        certificates.load(certificates.new_authority("Ours").certificate_pem(), pem)


def test_a_proof_belongs_to_its_code_and_both_keys() -> None:
    one, other = Device(), Device()
    request = one.request(spell_code(new_code()))
    request.verify()
    stolen = {
        "code": new_code(),
        "node_key": other.node,
        "device_key": other.key.public_key().public_bytes_raw(),
    }
    for name, value in stolen.items():
        with pytest.raises(ProtocolError):
            dataclasses.replace(request, **{name: value}).verify()


def test_a_refusal_cannot_move_the_cursor() -> None:
    said = Refusal.decode(Refusal("No.\x1b[2J\r\n" + "x" * 9000, "").encode())
    assert said.error.startswith("No.[2J") and len(said.error) <= 500


# Invites and devices


def test_enrol(enrolment: Enrolment, flower: Flower) -> None:
    device = Device()
    assert not enrolment.is_known(device.node)
    done = enrolment.redeem(device.request(enrolment.invite()), AUTHORITY, flower.register)
    assert done.member == 2**63
    certificate = verify_certificate(done.certificate, AUTHORITY.public_key())
    assert (certificate.member, certificate.device) == (done.member, device.key.public_key())
    assert enrolment.is_known(device.node)
    assert [one.member for one in enrolment.devices()] == [2**63]


def test_the_file_holds_no_code(enrolment: Enrolment, tmp_path: Path) -> None:
    code = enrolment.invite()
    files = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for trace in (code.encode(), code.replace("-", "").encode(), read_code(code)):
        assert trace not in files
    assert stat.S_IMODE((tmp_path / "enrolment.db").stat().st_mode) == 0o600


def refused(status: int, act: Callable[[], object]) -> str:
    with pytest.raises(EnrolmentRefused) as caught:
        act()
    assert caught.value.status == status
    return caught.value.message


def test_codes_that_open_nothing(enrolment: Enrolment, flower: Flower, clock: Clock) -> None:
    def redeem(device: Device, code: str) -> Callable[[], object]:
        return lambda: enrolment.redeem(device.request(code), AUTHORITY, flower.register)

    assert "not known" in refused(403, redeem(Device(), spell_code(new_code())))
    late = enrolment.invite(hours=2)
    clock.now += 2 * 3600
    assert "expired" in refused(403, redeem(Device(), late))
    used = enrolment.invite()
    redeem(Device(), used)()
    assert "used" in refused(403, redeem(Device(), used))
    assert len(flower.nodes) == 1
    for hours in (0.0, -1.0, 1e9, float("nan")):
        with pytest.raises(InputError):
            enrolment.invite(hours)


def test_the_same_request_is_answered_again(
    enrolment: Enrolment, flower: Flower, clock: Clock
) -> None:
    request = Device().request(enrolment.invite(hours=1))
    first = enrolment.redeem(request, AUTHORITY, flower.register)
    clock.now += 10_000  # the code has expired since; the device is enrolled all the same
    assert enrolment.redeem(request, AUTHORITY, flower.register) == first
    assert len(enrolment.devices()) == 1


def test_enrolled_keys_do_not_enrol_again(enrolment: Enrolment, flower: Flower) -> None:
    device, half = Device(), Device()
    enrolment.redeem(device.request(enrolment.invite()), AUTHORITY, flower.register)
    half.node = device.node
    for again in (device, half):
        request = again.request(enrolment.invite())
        refused(409, lambda r=request: enrolment.redeem(r, AUTHORITY, flower.register))  # type: ignore[misc]


def test_a_bad_proof_does_not_use_the_code_up(enrolment: Enrolment, flower: Flower) -> None:
    code = enrolment.invite()
    forged = dataclasses.replace(Device().request(code), proof=b"\x01" * 64)
    with pytest.raises(ProtocolError):
        enrolment.redeem(forged, AUTHORITY, flower.register)
    enrolment.redeem(Device().request(code), AUTHORITY, flower.register)


def test_one_code_has_one_winner(tmp_path: Path, flower: Flower) -> None:
    """Eight devices bring one code at the same moment, through files opened apart."""
    first = Enrolment(tmp_path / "enrolment.db")
    for _ in range(5):
        code, won, lost = first.invite(), [], []
        start = threading.Barrier(8)

        def bring(start: Any = start, code: str = code, won: Any = won, lost: Any = lost) -> None:
            file, request = Enrolment(tmp_path / "enrolment.db"), Device().request(code)
            start.wait()
            try:
                won.append(file.redeem(request, AUTHORITY, flower.register))
            except EnrolmentRefused:
                lost.append(1)

        threads = [threading.Thread(target=bring) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 7)
    assert len(first.devices()) == len(flower.nodes) == 5


def test_one_request_sent_many_times_at_once_is_one_device(
    enrolment: Enrolment, flower: Flower
) -> None:
    request, answers = Device().request(enrolment.invite()), []
    start = threading.Barrier(6)

    def send() -> None:
        start.wait()
        answers.append(enrolment.redeem(request, AUTHORITY, flower.register))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6 and len(set(answers)) == 1
    assert len(enrolment.devices()) == 1


class Died(BaseException):
    """The process is killed here."""


@pytest.mark.parametrize("registered", [False, True])
def test_a_server_that_dies_in_between_is_finished_by_the_same_request(
    enrolment: Enrolment, flower: Flower, tmp_path: Path, clock: Clock, registered: bool
) -> None:
    code = enrolment.invite(hours=1)
    device = Device()

    def die(node_key: bytes) -> int:
        if registered:
            flower.register(node_key)
        raise Died

    with pytest.raises(Died):
        enrolment.redeem(device.request(code), AUTHORITY, die)
    again = Enrolment(tmp_path / "enrolment.db", clock)
    assert not again.is_known(device.node)  # half an enrolment opens nothing
    clock.now += 7200
    assert "used" in refused(
        403, lambda: again.redeem(Device().request(code), AUTHORITY, flower.register)
    )
    done = again.redeem(device.request(code), AUTHORITY, flower.register)
    assert flower.nodes == {device.node: done.member}
    assert again.is_known(device.node)


def test_keys_of_an_enrolment_never_finished_can_use_another_code(
    enrolment: Enrolment, flower: Flower
) -> None:
    device = Device()

    def die(_: bytes) -> int:
        raise Died

    with pytest.raises(Died):
        enrolment.redeem(device.request(enrolment.invite()), AUTHORITY, die)
    enrolment.redeem(device.request(enrolment.invite()), AUTHORITY, flower.register)
    assert enrolment.is_known(device.node)


def test_killed_at_any_write(tmp_path: Path) -> None:
    """A process that is killed while it enrols leaves a file that the same request finishes."""
    path = tmp_path / "enrolment.db"
    device = Device()
    for step in range(1, 4):
        enrolment = Enrolment(path)
        code = enrolment.invite()
        request = device.request(code)
        script = f"""
import os, sqlite3, sys
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from common.enrolment.protocol import EnrolRequest
import server.enrolment.enrolment as module
seen = 0
def count(statement):
    global seen
    seen += statement.startswith(("UPDATE", "INSERT", "COMMIT"))
    if seen > {step}:
        os._exit(9)
real = sqlite3.connect
def connect(*a, **k):
    db = real(*a, **k); db.set_trace_callback(count); return db
enrolment = module.Enrolment(Path({str(path)!r}))
module.sqlite3.connect = connect
request = EnrolRequest.decode({request.encode()!r})
authority = Ed25519PrivateKey.from_private_bytes(b"\\1" * 32)
enrolment.redeem(request, authority, lambda key: 40 + {step})
"""
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
        done = enrolment.redeem(request, AUTHORITY, lambda _, step=step: 40 + step)  # type: ignore[misc]
        assert done.member == 40 + step
        device = Device()


def test_revoked(enrolment: Enrolment, flower: Flower) -> None:
    device = Device()
    request = device.request(enrolment.invite())
    member = enrolment.redeem(request, AUTHORITY, flower.register).member
    other = Enrolment(enrolment._path)  # the gateway's, in a process of its own
    assert other.is_known(device.node)
    enrolment.revoke(member, flower.unregister)
    assert not other.is_known(device.node)
    assert flower.gone == [member]
    assert "removed" in refused(403, lambda: enrolment.redeem(request, AUTHORITY, flower.register))
    renewed = device.request(enrolment.invite())
    refused(409, lambda: enrolment.redeem(renewed, AUTHORITY, flower.register))
    enrolment.revoke(member, flower.unregister)
    assert flower.gone == [member]
    with pytest.raises(InputError):
        enrolment.revoke(1, flower.unregister)


def test_revoked_while_flower_is_down(enrolment: Enrolment, flower: Flower) -> None:
    device = Device()
    member = enrolment.redeem(device.request(enrolment.invite()), AUTHORITY, flower.register).member

    def down(_: int) -> None:
        raise PrivityError("The SuperLink is not there.")

    with pytest.raises(PrivityError):
        enrolment.revoke(member, down)
    assert not enrolment.is_known(device.node)
    assert enrolment.settle(flower.unregister) == [member]
    assert enrolment.settle(flower.unregister) == []


def test_leave(enrolment: Enrolment, flower: Flower, clock: Clock) -> None:
    device, other = Device(), Device()
    member = enrolment.redeem(device.request(enrolment.invite()), AUTHORITY, flower.register).member
    now = int(clock.now)
    for at in (now - 301, now + 301):
        late = LeaveRequest.signed(member, at, device.key)
        assert "time" in refused(403, lambda r=late: enrolment.leave(r, flower.unregister))  # type: ignore[misc]
    forged = LeaveRequest.signed(member, now, other.key)
    unknown = LeaveRequest.signed(member + 1, now, device.key)
    words = {
        refused(403, lambda r=r: enrolment.leave(r, flower.unregister))  # type: ignore[misc]
        for r in (forged, unknown)
    }
    assert len(words) == 1 and enrolment.is_known(device.node)
    request = LeaveRequest.signed(member, now, device.key)
    for _ in range(2):
        enrolment.leave(request, flower.unregister)
    assert flower.gone == [member] and not enrolment.is_known(device.node)
    assert enrolment.devices()[0].gone_why == "left"


def test_flower_that_gives_a_number_twice(enrolment: Enrolment) -> None:
    enrolment.redeem(Device().request(enrolment.invite()), AUTHORITY, lambda _: 5)
    for number in (5, 0, 2**64):
        with pytest.raises(PrivityError):
            enrolment.redeem(
                Device().request(enrolment.invite()),
                AUTHORITY,
                lambda _, n=number: n,  # type: ignore[misc]
            )


def test_a_file_of_a_later_version(tmp_path: Path) -> None:
    path = tmp_path / "enrolment.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(PrivityError, match="version 99"):
        Enrolment(path)


# The desk


def test_desk(enrolment: Enrolment, flower: Flower, clock: Clock) -> None:
    desk = Desk(enrolment, AUTHORITY, "Ours", flower.register, flower.unregister, clock)
    request = Device().request(enrolment.invite()).encode()
    answer = EnrolAnswer.decode(desk.enrol(request, "here").body)
    assert answer.federation == "Ours" and answer.member == 2**63
    assert desk.enrol(b"{}", "here").status == 400
    wrong = Device().request(spell_code(new_code())).encode()
    statuses = [desk.enrol(wrong, "there").status for _ in range(MAX_WRONG + 3)]
    assert statuses == [403] * MAX_WRONG + [429] * 3
    assert desk.enrol(request, "there").status == 429
    assert desk.enrol(request, "here").status == 200  # another address is not held up
    clock.now += 601
    assert desk.enrol(request, "there").status == 200


def test_desk_with_flower_down(
    enrolment: Enrolment, flower: Flower, caplog: pytest.LogCaptureFixture
) -> None:
    def down(_: bytes) -> int:
        raise OSError("secret words")

    code = enrolment.invite()
    request = Device().request(code).encode()
    reply = Desk(enrolment, AUTHORITY, "Ours", down, flower.unregister).enrol(request, "here")
    assert reply.status == 503 and b"secret" not in reply.body
    assert "secret" not in caplog.text and code not in caplog.text
    up = Desk(enrolment, AUTHORITY, "Ours", flower.register, flower.unregister)
    assert up.enrol(request, "here").status == 200


# Certificates


def test_certificates_by_another_reader(tmp_path: Path) -> None:
    """OpenSSL's own verification, at its strictest, by name and by address."""
    authority = certificates.new_authority("Ours")
    server = certificates.new_server(authority, ["fed.example.org", "2001:db8::1"])
    (tmp_path / "ca").write_bytes(authority.certificate_pem())
    (tmp_path / "server").write_bytes(server.certificate_pem())

    def verify(*options: str) -> bool:
        command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver"]
        files = ["-CAfile", str(tmp_path / "ca"), str(tmp_path / "server")]
        ran = subprocess.run([*command, *options, *files], capture_output=True, check=False)
        return ran.returncode == 0

    assert verify("-verify_hostname", "fed.example.org")
    assert verify("-verify_hostname", "localhost")
    assert verify("-verify_ip", "2001:db8::1") and verify("-verify_ip", "127.0.0.1")
    assert not verify("-verify_hostname", "other.example.org")
    assert not verify("-purpose", "sslclient")
    constraints = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and constraints.value.ca and constraints.value.path_length == 0


def test_renewal() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    authority = certificates.new_authority("Ours", now)
    server = certificates.new_server(authority, ["a.example"], now)

    def renewed(names: list[str], days: float, by: certificates.Keyed = authority) -> bool:
        return certificates.renewed(server, by, names, now + timedelta(days=days)) is not None

    assert not renewed(["a.example"], 366.9)
    assert renewed(["a.example"], 367.1)
    assert renewed(["a.example", "b.example"], 0)
    assert renewed([], 0)
    assert not renewed(["A.example", "127.0.0.1"], 0)
    assert renewed(["a.example"], 0, certificates.new_authority("Ours", now))


@pytest.mark.parametrize("name", ["", "a b", "*", "-a.example", "a" * 64, "http://a", "ä.example"])
def test_names_no_certificate_can_carry(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        place.create(tmp_path / "ours", names=[name])
    assert list(tmp_path.iterdir()) == []


# The operator's folder


def test_create(tmp_path: Path) -> None:
    made = place.create(tmp_path / "deep" / "ours", name="Ours", names=["a.example"])
    for path in made.folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    assert len((made.keys / "authority.key").read_bytes()) == 32
    found = place.existing(made.folder).settings()
    assert found.federation.name == "Ours" and found.gateway.names == ("a.example",)
    assert found.run == Settings()
    assert fingerprints.read(made.fingerprint())
    assert not made.renew(found.gateway.names)


def test_create_twice_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "ours"
    place.create(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="exists already"):
        place.create(folder)
    file = tmp_path / "file"
    file.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    for taken in (file, link):
        with pytest.raises(InputError):
            place.create(taken)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "link", "ours"]
    (tmp_path / "empty").mkdir()
    place.create(tmp_path / "empty")


def test_a_creation_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space"):
        place.create(tmp_path / "ours")
    assert list(tmp_path.iterdir()) == []


def test_keys_that_others_can_read(tmp_path: Path) -> None:
    made = place.create(tmp_path / "ours")
    made.ca_key.chmod(0o640)
    with pytest.raises(InputError, match="mode 640"):
        place.existing(made.folder)
    with pytest.raises(InputError, match="not an operator's folder"):
        place.existing(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda file: file.unlink(), "is missing"),
        (lambda file: file.write_bytes(b""), "is damaged"),
        (lambda file: file.write_bytes(bytes(32)), "is not the key"),
    ],
)
def test_no_new_authority_takes_the_place_of_one_that_was_lost(
    spoil: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    made = place.create(tmp_path / "ours")
    file = made.keys / "authority.key"
    before = made.authority().public_key()
    assert authority(made.federation) == before
    spoil(file)
    kept = file.exists() and file.read_bytes()
    with pytest.raises(InputError, match=f"authority.key {words}.*Restore keys/"):
        up(made)
    assert (file.exists() and file.read_bytes()) == kept
    assert authority(made.federation) == before


def test_a_server_certificate_that_is_missing_or_damaged_is_made_anew(tmp_path: Path) -> None:
    made = place.create(tmp_path / "ours")
    other = place.create(tmp_path / "other")
    pair = made.server_pem.read_bytes()
    mixed = other.server().certificate_pem() + made.server().key_pem()
    for damaged in (mixed, pair[:-60], b""):
        made.server_pem.write_bytes(damaged)
        with pytest.raises(InputError):
            made.server()
        assert made.renew([]) and made.server()
    made.server_pem.unlink()
    assert made.renew([]) and made.server()
    made.ca_key.write_bytes(other.ca_key.read_bytes())
    with pytest.raises(InputError, match="do not belong together"):
        made.renew([])


def test_a_pair_belongs_together_whenever_it_is_read(tmp_path: Path) -> None:
    """Every file that renewal puts in place is read right after; none is half of a pair."""
    made, read = place.create(tmp_path / "ours"), []
    replace = Path.replace

    def watched(scratch: Path, target: Path) -> Path:
        done = replace(scratch, target)
        read.append(made.server().certificate.serial_number)
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", watched)
        assert made.renew(["another.example"])
    assert read == [made.server().certificate.serial_number]


def test_a_folder_with_the_pair_in_two_files_still_opens(tmp_path: Path) -> None:
    made = place.create(tmp_path / "ours")
    server = made.server()
    (made.keys / "server.crt").write_bytes(server.certificate_pem())
    (made.keys / "server.key").write_bytes(server.key_pem())
    (made.keys / "server.key").chmod(0o600)
    made.server_pem.unlink()
    assert place.existing(made.folder).renew([])
    names = {file.name for file in made.keys.iterdir()}
    assert names == {"ca.crt", "ca.key", "authority.key", "server.pem"}
    assert stat.S_IMODE(made.server_pem.stat().st_mode) == 0o600


def test_the_settings_file_explains_every_setting(tmp_path: Path) -> None:
    written = privity_toml.text(privity_toml.FederationSettings(), privity_toml.GatewaySettings())
    sections = {
        "federation": privity_toml.FederationSettings,
        "gateway": privity_toml.GatewaySettings,
        "dashboard": privity_toml.DashboardSettings,
        "limits": privity_toml.Limits,
        "run": Settings,
    }
    for name, kind in sections.items():
        lines = written.split(f"\n[{name}]\n")[1].split("\n[")[0].splitlines()
        for setting in privity_toml._fields(kind):
            (at,) = [n for n, line in enumerate(lines) if line.startswith(f"{setting} = ")]
            assert lines[at - 1].startswith("# ") and len(lines[at - 1]) > 5
    assert "--" not in written
    file = tmp_path / "privity.toml"
    file.write_text(written)
    everything = privity_toml.OperatorSettings(
        privity_toml.FederationSettings(),
        privity_toml.GatewaySettings(),
        privity_toml.DashboardSettings(),
        privity_toml.Limits(),
        Settings(),
    )
    assert privity_toml.load(file) == everything
    file.write_text("")
    assert privity_toml.load(file) == everything


@pytest.mark.parametrize("name", ['a"b', "a\\b", "ä ε 🦊", "#", "'"])
def test_any_name_survives_the_settings_file(name: str, tmp_path: Path) -> None:
    assert place.create(tmp_path / "ours", name=name).settings().federation.name == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[run]\nepsilonn = 1", "Did you mean epsilon"),
        ("[run]\nepsilon = -1", r"\[run\] epsilon must be greater than 0"),
        ("[run]\nepsilon = nan", "finite"),
        ('[run]\nepsilon = "8"', "must be a number"),
        ("[run]\nrounds = 2.5", "a whole number"),
        ("[run]\nrounds = true", "a whole number"),
        ("[run]\ndp = 1", "true or false"),
        ('[run]\nsharing = "all"', "Choose one of: ffa"),
        ("[run]\nusers = 5\ncohort = 6", "more than the 5"),
        ("[run]\nseed = 5", "no setting 'seed'"),
        ("[gateway]\nport = 65536", "at most 65535"),
        ("[gateway]\nport = 10000000000000000000000", "at most 65535"),
        ('[gateway]\nnames = "a"', "list of texts"),
        ('[gateway]\nnames = ["a b"]', "neither a host name"),
        ('[federation]\nname = ""', "1 to 100"),
        ("[limits]\nbody_s = 0", "at least 0.1"),
        ("[rounds]\nx = 1", "unknown 'rounds'"),
        ("run = 1", "unknown 'run'"),
        ("[run", "not TOML"),
        ("[run]\nrounds = 1\nrounds = 2", "not TOML"),
    ],
)
def test_settings_that_are_wrong(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "privity.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        privity_toml.load(file)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


def test_settings_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="cannot be read"):
            privity_toml.load(path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not TOML"):
        privity_toml.load(tmp_path / "bytes")
