"""Enrolment at the gateway, and codes that do not open."""

from __future__ import annotations

import logging

import pytest
from gateway_world import Person, World

from common.enrolment.protocol import EnrolRequest, new_code, read_code, spell_code
from common.errors import InputError


def test_enrolment_that_is_repeated(world: World) -> None:
    person, code = Person(), world.enrolment.invite()
    first = person.join(world, code)
    assert person.join(world, code) == first
    with pytest.raises(InputError, match="used by another"):
        Person().join(world, code)
    assert len(world.nodes) == 1


def test_codes_that_do_not_open(world: World) -> None:
    expired = world.enrolment.invite(hours=1e-9)
    with pytest.raises(InputError, match="expired"):
        Person().join(world, expired)
    with pytest.raises(InputError, match="not known"):
        Person().join(world, spell_code(new_code()))
    with pytest.raises(InputError, match="slip"):
        Person().join(world, "ABCD")
    assert world.nodes == {}


def test_too_many_wrong_codes(world: World) -> None:
    body = EnrolRequest.signed(new_code(), Person().key, Person().node_key).encode()
    with world.client() as client:
        statuses = [client.post("/v1/enrol", content=body).status_code for _ in range(12)]
    assert statuses == [403] * 10 + [429] * 2
    with world.client("127.0.0.2") as client:
        assert client.post("/v1/enrol", content=body).status_code == 403


def test_enrolment_that_is_replayed_by_others(world: World) -> None:
    """Whoever saw a whole request gets the same answer, which is worth nothing without the keys;
    with any part of it changed they get none."""
    person, thief, code = Person(), Person(), world.enrolment.invite()
    request = EnrolRequest.signed(read_code(code), person.key, person.node_key)
    forged = EnrolRequest(request.code, request.device_key, thief.node_key, request.proof)
    with world.client() as client:
        assert client.post("/v1/enrol", content=forged.encode()).status_code == 400
        first = client.post("/v1/enrol", content=request.encode())
        assert client.post("/v1/enrol", content=request.encode()).content == first.content
        assert client.post("/v1/enrol", content=forged.encode()).status_code == 400
    assert list(world.nodes) == [person.node_key]


def test_no_log_line_tells_a_code(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    codes = [world.enrolment.invite(), spell_code(new_code())]
    Person().join(world, codes[0])
    for code in codes:
        with pytest.raises(InputError):
            Person().join(world, code)
        for target in (f"/v1/enrol?code={code}", f"/v1/enrol/{code.lower()}", f"/{code}"):
            world.talk(f"POST {target} HTTP/1.1\r\nHost: {code}\r\nX: {code}\r\n\r\n".encode())
        world.talk(f"{code}\r\n\r\n".encode())
    ours = "\n".join(one.getMessage() for one in caplog.records if one.name.startswith("privity"))
    assert "refused 127.0.0.1" in ours
    for code in codes:
        for trace in (code, code.replace("-", ""), code[:9]):
            assert trace.lower() not in ours.lower()
