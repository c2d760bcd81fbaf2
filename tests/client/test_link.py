"""A device's link when the federation is too busy for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client.federation import link
from client.federation.link import Link, LinkLostError


class Federation:
    """Flower's client, whose calls go wrong as `faults` says, one each, and then work.

    "late" comes to nothing, "lost" works but is not answered.
    """

    def __init__(self, *faults: str) -> None:
        self._faults: Iterator[str] = iter(faults)
        self.sent: list[str] = []
        self.wanted: set[str] = set()
        self.objects: set[str] = set()

    def PushMessages(self, request: Any) -> Any:  # noqa: N802
        fault = next(self._faults, "")
        if fault == "late":
            raise httpx.ReadTimeout(fault)
        assert list(request.clientapp_runtime_list) == [0.0]  # how long it took stays here
        known = bool(self.sent)
        self.sent.append(request.messages_list[0].metadata.message_id)
        self.wanted |= set() if known else {request.message_object_trees[0].object_id}
        if fault:
            raise httpx.ReadTimeout(fault)
        return SimpleNamespace(objects_to_push=[] if known else list(self.wanted), session_id="a")

    def PushObject(self, request: Any) -> Any:  # noqa: N802
        assert request.session_id == ""
        fault = next(self._faults, "")
        if fault == "late":
            raise httpx.ReadTimeout(fault)
        stored = request.object_id in self.wanted and fault != "not stored"
        if stored:
            self.objects.add(request.object_id)
            self.wanted.remove(request.object_id)
        if fault == "lost":
            raise httpx.ReadTimeout(fault)
        return SimpleNamespace(stored=stored)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "AGAIN_S", (0.0, 0.0))


def reply() -> Message:
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 7
    asked = Message(RecordDict(), dst_node_id=7, message_type="query.share")
    asked.metadata.__dict__["_message_id"] = "asked"
    return Message(RecordDict({"share": ConfigRecord({"body": b"x"})}), reply_to=asked)


@pytest.mark.parametrize(
    "faults",
    [
        (),
        ("late",),
        ("late", "late"),
        ("", "not stored"),
        ("", "not stored", "late"),
        ("", "lost"),
        ("", "late", "lost"),
    ],
)
def test_a_reply_gets_through_a_busy_moment(faults: tuple[str, ...]) -> None:
    """Whatever call failed, the same reply comes again, under the same number."""
    federation = Federation(*faults)
    Link(7, federation).send(reply())  # type: ignore[arg-type]
    assert len(set(federation.sent)) == 1
    assert federation.objects == set(federation.sent)


def test_a_reply_whose_announcement_was_not_answered_gets_through() -> None:
    """The second announcement is refused: Flower has the reply, but nothing of its content."""
    federation = Federation("lost")
    Link(7, federation).send(reply())  # type: ignore[arg-type]
    assert federation.objects == set(federation.sent)


def test_a_federation_that_stays_away_is_out_of_reach() -> None:
    federation = Federation(*["late"] * 9)
    with pytest.raises(LinkLostError):
        Link(7, federation).send(reply())  # type: ignore[arg-type]
    assert not federation.sent


def test_an_object_that_is_never_stored_ends_no_process() -> None:
    """Flower says so with an error of its own, which a device's process does not know."""
    federation = Federation("", "not stored", "not stored", "not stored")
    with pytest.raises(LinkLostError, match="ObjectPushError"):
        Link(7, federation).send(reply())  # type: ignore[arg-type]
