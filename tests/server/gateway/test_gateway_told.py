"""What a device is told when the server is wrong, away or hanging."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from gateway_world import Opener, Person, World, until

from client.federation import joining
from client.federation.joining import join
from client.federation.link import LinkLostError, connect
from common.enrolment.protocol import Authorities, new_code, spell_code
from common.errors import InputError, PrivityError
from server.deployment import certificates, place
from server.enrolment.desk import Desk
from server.gateway.front import Gateway
from server.gateway.limits import Limits


def test_wrong_fingerprint_sends_nothing(world: World) -> None:
    code = world.enrolment.invite()
    with pytest.raises(InputError, match="not the one given"):
        Person().join(world, code, ca_fingerprint="00" * 32)
    until(lambda: world.gateway.figures()["answers"] == {"/v1/ca 200": 1})
    assert world.refusals == {}
    Person().join(world, code)


def test_a_server_of_another_authority(open_world: Opener, tmp_path: Path) -> None:
    """Somebody in between who hands out the true authority's certificate, which anybody can get."""
    world = open_world()
    other = place.create(tmp_path / "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(other.server_pem)
    seen: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    told = world.made.authorities().encode()

    def serve() -> None:
        for _ in range(2):
            plain, _address = listener.accept()
            with suppress(OSError), closing(context.wrap_socket(plain, server_side=True)) as tls:
                seen.append(tls.recv(65536))
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(told) + told)

    threading.Thread(target=serve, daemon=True).start()
    code = world.enrolment.invite()
    between = f"https://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(PrivityError, match="not the authority's"):
        Person().join(world, code, url=between)
    assert len(seen) == 1 and seen[0].startswith(b"GET /v1/ca ")
    listener.close()


def test_no_older_tls_on_a_devices_side(world: World) -> None:
    """A server with the true key that speaks TLS 1.2 only: neither call gets a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(world.made.server_pem)
    shaken: list[bool] = []

    def serve() -> None:
        for _ in range(2):
            plain, _address = listener.accept()
            with suppress(OSError), closing(context.wrap_socket(plain, server_side=True)):
                shaken.append(True)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        address, person = f"127.0.0.1:{listener.getsockname()[1]}", Person()
        with pytest.raises(PrivityError):
            person.join(world, url=address)
        ca_pem = world.made.ca_certificate.read_bytes()
        with pytest.raises(LinkLostError), connect(address, ca_pem, person.node, 7):
            pass
    assert shaken == []


def test_another_enrolment_authority_than_the_invites(world: World, tmp_path: Path) -> None:
    """The TLS authority's key was stolen, or its holder lies: the fingerprint covers both."""
    other, services = place.create(tmp_path / "other").authorities(), world.gateway._shared.services
    mixed = Authorities(world.made.authorities().tls, other.enrolment)
    object.__setattr__(services, "authorities", mixed.encode())
    with pytest.raises(InputError, match="not the one given"):
        Person().join(world)
    assert world.refusals == {} and not world.enrolment.devices()


def test_a_certificate_of_another_enrolment_authority(world: World, tmp_path: Path) -> None:
    """Found out after the code is used: the keys belong to no federation, and nothing is kept."""
    other = place.create(tmp_path / "other")
    desk = Desk(world.enrolment, other.authority(), "Ours", world.register, world.gone.append)
    object.__setattr__(world.gateway._shared.services, "desk", desk.answer)
    with pytest.raises(PrivityError, match="another enrolment authority"):
        Person().join(world)


def test_an_invite_of_an_older_version(world: World) -> None:
    only_tls = world.made.authorities().tls.fingerprint(SHA256()).hex()
    with pytest.raises(InputError, match="older version") as caught:
        Person().join(world, ca_fingerprint=only_tls)
    assert "new invite" in caught.value.hint


def test_a_server_that_lies_about_the_certificate(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = joining.EnrolAnswer.decode

    def other_member(data: bytes) -> Any:
        answer = genuine(data)
        return type(answer)(
            answer.member + 1, answer.certificate, answer.authority, answer.federation
        )

    monkeypatch.setattr(joining.EnrolAnswer, "decode", other_member)
    with pytest.raises(PrivityError, match="another device's"):
        Person().join(world)


@pytest.mark.parametrize(("days", "words"), [(-500, "has expired"), (10, "not valid yet")])
def test_clocks_that_disagree(open_world: Opener, tmp_path: Path, days: int, words: str) -> None:
    now = datetime.now(UTC) + timedelta(days=days)
    wrong = place.create(tmp_path / "wrong")
    server = certificates.new_server(wrong.ca(), [], now)
    wrong.server_pem.write_bytes(server.certificate_pem() + server.key_pem())
    world = open_world()
    world.do(_use(world.gateway, wrong))
    with pytest.raises(PrivityError, match=words) as caught:
        Person().join(world, ca_fingerprint=wrong.fingerprint())
    assert "date and time" in caught.value.hint


async def _use(gateway: Gateway, other: place.Place) -> None:
    gateway._certificate = other.server_pem
    gateway.reload_certificate()
    services = gateway._shared.services
    object.__setattr__(services, "authorities", other.authorities().encode())


def test_addresses_that_lead_nowhere(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(PrivityError, match="did not answer in time"):
            join(
                f"127.0.0.1:{port}", spell_code(new_code()), "00" * 32, Person().key,
                Person().node, 0.3,
            )  # fmt: skip
    with pytest.raises(PrivityError, match="cannot be reached"):
        Person().join(world, url=f"127.0.0.1:{port}")
    for url in ("http://a", "https://", "a/b", "https://u:p@a", "https://a?x", "a:99999", "a b"):
        with pytest.raises(InputError):
            Person().join(world, url=url)


def test_proxies_of_the_environment_are_not_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    Person().join(world)


def test_a_flower_that_is_down(world: World) -> None:
    person = Person()
    person.join(world)
    world.stub.close()
    with world.client() as client:
        answer = client.post("/v1/fleet/get-run", content=b"", headers=person.headers)
        assert answer.status_code == 502
    assert world.healthy()


def test_a_flower_that_hangs(open_world: Opener) -> None:
    world = open_world(Limits(upstream_s=2, shutdown_s=1))
    person = Person()
    person.join(world)
    world.stub.delay_s = 6
    with world.client() as client:
        answer = client.post("/v1/fleet/get-run", content=b"", headers=person.headers)
        assert answer.status_code == 504
    assert world.healthy()


def test_a_flower_that_breaks_off(world: World) -> None:
    """A device must not take half an answer for a whole one."""
    person = Person()
    person.join(world)
    world.stub.missing = 5
    with world.client() as client, pytest.raises(httpx.RemoteProtocolError):
        client.post("/v1/fleet/get-run", content=b"", headers=person.headers)
    world.stub.missing, world.stub.status = 0, 401
    with world.client() as client:
        answer = client.post("/v1/fleet/get-run", content=b"", headers=person.headers)
        assert (answer.status_code, answer.content) == (401, b"answer")
    assert world.healthy()
