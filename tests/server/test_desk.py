"""The enrolment desk apart from the gateway: the key, the line between them, the signed log."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deployment import wait_for
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from client.federation.joining import join, renew
from common.enrolment.log import DAY_S, LIFE_S, RENEWED_WITHIN_S, opened
from common.enrolment.protocol import EnrolAnswer, EnrolRequest, Refusal, RenewRequest, read_code
from common.errors import InputError
from common.rounds.run_folder import LOG, kept_log
from server.cli import main
from server.deployment import figures
from server.deployment.desk_process import SignedLog
from server.deployment.place import Place, create
from server.enrolment.desk import Desk, Reply
from server.enrolment.enrolment import MIGRATIONS, Enrolment, EnrolmentRefused
from server.enrolment.line import DeskServer, call

PATIENCE = 60.0


def no_unregistering(_: int) -> None:
    pass


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return create(tmp_path / "ours", name="Ours", port=0)


@contextmanager
def desk(place: Place) -> Iterator[Enrolment]:
    """The desk at the place's socket, with nobody behind it who knows Flower."""
    enrolment, numbers = place.enrolment(), iter(range(7, 100))
    desk = Desk(enrolment, place.authority(), "Ours", lambda _: next(numbers), no_unregistering)
    with DeskServer(place.desk_socket, desk.answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield enrolment
        finally:
            server.shutdown()
            enrolment.close()


def request(code: str, key: Ed25519PrivateKey) -> bytes:
    node = public_key_to_bytes(ec.generate_private_key(ec.SECP384R1()).public_key())
    return EnrolRequest.signed(read_code(code), key, node).encode()


def test_the_gateway_enrols_without_any_authoritys_key(place: Place) -> None:
    """The private keys of both authorities are nowhere in its reach, from its start on."""
    with desk(place) as enrolment:
        for name in ("authority.key", "ca.key"):
            (place.keys / name).unlink()
        command = [sys.executable, "-m", "server.deployment.gateway_process", str(place.folder)]
        gateway = subprocess.Popen(command)
        try:
            wait_for(lambda: figures.read(place.log / figures.GATEWAY), PATIENCE, "the gateway")
            url = f"https://127.0.0.1:{figures.read(place.log / figures.GATEWAY)['port']}"
            keys = Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())
            joined = join(url, enrolment.invite(), place.fingerprint(), *keys)
            assert joined.member == 7
            renew(joined, keys[0])
        finally:
            gateway.terminate()
            gateway.wait(PATIENCE)


def test_the_desk_checks_the_invite_itself(place: Place) -> None:
    """Whoever has taken over the gateway gets no certificate without a code."""
    with desk(place) as enrolment:
        key, code = Ed25519PrivateKey.generate(), enrolment.invite()
        never = code[:-4] + ("AAAA" if code[-4:] != "AAAA" else "BBBB")
        with pytest.raises(InputError):
            read_code(never)
        stranger = EnrolRequest.signed(bytes(16), key, b"").encode()
        for body in (stranger, b"", b"{}", b"\xff"):
            assert call(place.desk_socket, "enrol", body, "here").status == 400
        assert call(place.desk_socket, "enrol", request(code, key), "here").status == 200
        other = call(place.desk_socket, "enrol", request(code, Ed25519PrivateKey.generate()), "x")
        assert (other.status, len(enrolment.devices())) == (403, 1)


def test_what_is_no_call_ends_its_line_and_no_more(place: Place) -> None:
    import socket

    with desk(place) as enrolment:
        for sent in (b"", b"\xff" * 8, b"\0" * 7 + b"\x03abc", b"\0" * 8):
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(str(place.desk_socket))
                line.sendall(sent)
                line.shutdown(socket.SHUT_WR)
                assert line.recv(1) == b""
        assert call(place.desk_socket, "sign", b"", "here").status == 400
        idle = [socket.socket(socket.AF_UNIX) for _ in range(50)]
        for line in idle:
            line.connect(str(place.desk_socket))
        body = request(enrolment.invite(), Ed25519PrivateKey.generate())
        reply = call(place.desk_socket, "enrol", body, "here")
        assert EnrolAnswer.decode(reply.body).federation == "Ours"
        for line in idle:
            line.close()


def test_only_its_user_reaches_the_desk_and_nobody_is_told_503(place: Place) -> None:
    assert call(place.desk_socket, "enrol", b"", "here").status == 503
    assert Refusal.decode(call(place.desk_socket, "enrol", b"", "here").body).hint
    old, new = (DeskServer(place.desk_socket, lambda *_: Reply(200, b"")) for _ in range(2))
    old.server_close()  # one whose end was slow
    assert place.desk_socket.exists()
    new.server_close()
    with desk(place):
        assert stat.S_IMODE(place.desk_socket.stat().st_mode) == 0o600
    assert not place.desk_socket.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the path is refused in words")
def test_a_folder_with_a_long_path(tmp_path: Path) -> None:
    place = create(tmp_path / ("long-" * 20) / "ours", port=0)
    with desk(place):
        assert call(place.desk_socket, "enrol", b"", "here").status == 400


# The signed log


def enrol(enrolment: Enrolment, place: Place, member: int) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    body = EnrolRequest.decode(request(enrolment.invite(), key))
    enrolment.redeem(body, place.authority(), lambda _: member)
    return key


def test_the_signed_log_has_every_enrolment_and_departure(place: Place) -> None:
    enrolment = place.enrolment()
    signed = SignedLog(enrolment, place.authority(), place.federation)
    signed.keep_up()
    heads = [(place.federation / LOG).read_bytes()]
    keys = {}
    for member in (1, 2, 3):
        keys[member] = enrol(enrolment, place, member)
        signed.keep_up()
        heads.append((place.federation / LOG).read_bytes())
    Enrolment(place.enrolment_file).revoke(2, no_unregistering)  # as another process does
    signed.keep_up()
    heads.append((place.federation / LOG).read_bytes())
    device = opened(place.authority().public_key(), heads[0])
    for head in heads[1:]:
        device.extend(head)
    assert device.enrolled() == 2
    assert [member for member, one in device.members.items() if one.gone] == [2]
    for member, key in keys.items():
        assert device.members[member].key == key.public_key().public_bytes_raw()
    log = kept_log(place.federation)
    assert log and log.head == device.head


def copied(place: Place) -> Path:
    """A copy of the database as it is now."""
    copy = place.enrolment_file.with_suffix(".copy")
    with sqlite3.connect(place.enrolment_file) as db:
        db.execute("VACUUM INTO ?", (str(copy),))
    db.close()
    return copy


def put_back(place: Place, copy: Path) -> None:
    """Restore the database from the copy."""
    for file in place.folder.glob("enrolment.db*"):
        if file != copy:
            file.unlink()
    copy.rename(place.enrolment_file)


def test_an_older_copy_of_the_database_does_not_fork_the_log(place: Place) -> None:
    """Devices have seen the signed log, and would refuse any other for good."""
    enrolment, authority = place.enrolment(), place.authority()
    kept = enrol(enrolment, place, 1)
    enrolment.close()
    copy = copied(place)
    newer = place.enrolment()
    enrol(newer, place, 2)
    newer.revoke(1, no_unregistering)
    SignedLog(newer, authority, place.federation).keep_up()
    shown = kept_log(place.federation)
    newer.close()
    put_back(place, copy)

    restored = Enrolment(place.enrolment_file)
    assert restored.log_size() == 1
    signed = SignedLog(restored, authority, place.federation)
    enrol(restored, place, 3)
    signed.keep_up()
    now = kept_log(place.federation)
    assert shown and now
    shown.extend(now.part())  # a device goes on from what it was shown
    assert [member for member, one in now.members.items() if not one.gone] == [2, 3]
    (gone,) = [one.member for one in restored.devices() if one.gone_why]
    assert (gone, kept.public_key().public_bytes_raw()) == (1, now.members[1].key)


def test_a_device_revoked_before_up_in_an_older_copy_does_not_fork_the_log(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrolment, authority = place.enrolment(), place.authority()
    enrol(enrolment, place, 1)
    copy = copied(place)
    enrol(enrolment, place, 2)
    SignedLog(enrolment, authority, place.federation).keep_up()
    shown = kept_log(place.federation)
    enrolment.close()
    put_back(place, copy)
    nodes = SimpleNamespace(unregister=no_unregistering)
    monkeypatch.setattr("server.deployment.superlink.nodes_of", lambda _: nodes)
    assert main(["revoke", "1", "--dir", str(place.folder)]) == 0
    SignedLog(place.enrolment(), authority, place.federation).keep_up()
    now = kept_log(place.federation)
    assert shown and now
    shown.extend(now.part())
    assert [member for member, one in shown.members.items() if one.gone] == [1]


def test_a_database_replaced_while_the_desk_runs_does_not_shorten_the_log(place: Place) -> None:
    enrolment, authority = place.enrolment(), place.authority()
    signed = SignedLog(enrolment, authority, place.federation)
    enrol(enrolment, place, 1)
    copy = copied(place)
    enrol(enrolment, place, 2)
    signed.keep_up()
    device = kept_log(place.federation)
    put_back(place, copy)
    signed.keep_up()
    now = kept_log(place.federation)
    assert device and now and (now.size, now.head) == (device.size, device.head)
    enrol(enrolment, place, 3)
    signed.keep_up()
    now = kept_log(place.federation)
    assert now
    device.extend(now.part())
    assert list(device.members) == [1, 2, 3]


def test_the_desk_looks_at_the_database_before_it_enters_anything(place: Place) -> None:
    """An enrolment that comes at once after an older copy was put back does not fork the log."""
    enrolment = place.enrolment()
    enrol(enrolment, place, 1)
    copy = copied(place)
    numbers = iter((2, 3))
    desk = Desk(enrolment, place.authority(), "Ours", lambda _: next(numbers), no_unregistering)
    signed = SignedLog(enrolment, place.authority(), place.federation)
    for restored in (False, True):
        if restored:
            put_back(place, copy)
        body = request(enrolment.invite(), Ed25519PrivateKey.generate())
        assert signed.answering(desk)("enrol", body, "here").status == 200
    log = kept_log(place.federation)
    assert log and list(log.members) == [1, 2, 3]


def test_a_lost_database_does_not_let_a_key_be_enrolled_twice(place: Place) -> None:
    enrolment = place.enrolment()
    key = enrol(enrolment, place, 1)
    SignedLog(enrolment, place.authority(), place.federation).keep_up()
    enrolment.close()
    for file in place.folder.glob("enrolment.db*"):
        file.unlink()
    fresh = Enrolment(place.enrolment_file)
    signed = SignedLog(fresh, place.authority(), place.federation)
    with pytest.raises(EnrolmentRefused) as caught:
        again = EnrolRequest.decode(request(fresh.invite(), key))
        fresh.redeem(again, place.authority(), lambda _: 2)
    assert caught.value.status == 409  # at which a device makes new keys
    enrol(fresh, place, 3)
    signed.keep_up()


def test_a_log_that_contradicts_the_signed_one_is_not_signed(place: Place) -> None:
    enrolment = place.enrolment()
    enrol(enrolment, place, 1)
    SignedLog(enrolment, place.authority(), place.federation).keep_up()
    other = Enrolment(place.folder / "other.db")
    enrol(other, place, 1)
    with pytest.raises(InputError, match="not the one that devices were shown"):
        SignedLog(other, place.authority(), place.federation)


def test_what_is_in_the_log_stays(place: Place) -> None:
    enrolment = place.enrolment()
    enrol(enrolment, place, 1)
    db = sqlite3.connect(place.enrolment_file)
    for change in ("DELETE FROM log", "UPDATE log SET until = 0"):
        with pytest.raises(sqlite3.DatabaseError, match="append only"):
            db.execute(change)
    db.close()


def test_devices_of_an_older_version_are_in_the_log(tmp_path: Path) -> None:
    file, authority = tmp_path / "enrolment.db", Ed25519PrivateKey.generate()
    keys = [Ed25519PrivateKey.generate().public_key().public_bytes_raw() for _ in range(3)]
    db = sqlite3.connect(file)
    db.executescript(f"{MIGRATIONS[0]}; PRAGMA user_version=1;")
    for number, key in enumerate(keys):
        gone = (1_700_000_100, "left") if number == 1 else (None, None)
        row = (str(2**63 + number), key, key, b"", 1_700_000_000 - number, *gone, 0)
        db.execute("INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    db.commit()
    db.close()
    for _ in range(2):  # opened again, it is migrated once
        log = Enrolment(file).log(authority.public_key())
    assert list(log.members) == [2**63 + number for number in (2, 1, 0)]
    assert (log.size, log.enrolled()) == (4, 2)


def test_an_enrolment_ends_unless_it_is_renewed_in_time(tmp_path: Path) -> None:
    now, authority = [1_800_000_000], Ed25519PrivateKey.generate()
    enrolment = Enrolment(tmp_path / "enrolment.db", lambda: now[0])
    key = Ed25519PrivateKey.generate()
    body = EnrolRequest.decode(request(enrolment.invite(), key))
    enrolment.redeem(body, authority, lambda _: 5)

    def until() -> int:
        return enrolment.log(authority.public_key()).members[5].until

    def ask(key: Ed25519PrivateKey = key) -> None:
        enrolment.renew(RenewRequest.signed(5, now[0], key))

    first = until()
    assert first == now[0] + LIFE_S
    ask()
    assert until() == first  # too early: the log does not grow by asking
    now[0] = first - RENEWED_WITHIN_S + DAY_S
    with pytest.raises(EnrolmentRefused, match="signed"):
        ask(Ed25519PrivateKey.generate())
    ask()
    ask()
    assert until() == now[0] + LIFE_S and enrolment.log_size() == 2
    now[0] = until() + 1
    with pytest.raises(EnrolmentRefused, match="has ended") as caught:
        ask()
    assert "new invite" in caught.value.hint
    enrolment.revoke(5, no_unregistering)
    with pytest.raises(EnrolmentRefused, match="removed"):
        ask()
