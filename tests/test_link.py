"""A device's link when the federation is too busy for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client import link
from client.link import Link, LinkLostError


class Federation:
    """Flower's client, whose calls go wrong as `faults` says, one each, and then work."""

    def __init__(self, *faults: str) -> None:
        self._faults: Iterator[str] = iter(faults)
        self.sent: list[str] = []
        self.objects: set[str] = set()

    def PushMessages(self, request: Any) -> Any:  # noqa: N802
        self._go_wrong("message")
        self.sent.append(request.messages_list[0].metadata.message_id)
        wanted = [request.message_object_trees[0].object_id]
        return SimpleNamespace(objects_to_push=wanted, session_id="a")

    def PushObject(self, request: Any) -> Any:  # noqa: N802
        fault = next(self._faults, "")
        if not fault:
            self.objects.add(request.object_id)
        return SimpleNamespace(stored=not fault)

    def _go_wrong(self, what: str) -> None:
        if (fault := next(self._faults, "")) != "":
            raise httpx.ReadTimeout(f"{what} {fault}")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "AGAIN_S", (0.0, 0.0))


def reply() -> Message:
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 7
    asked = Message(RecordDict(), dst_node_id=7, message_type="query.share")
    asked.metadata.__dict__["_message_id"] = "asked"
    return Message(RecordDict({"share": ConfigRecord({"body": b"x"})}), reply_to=asked)


@pytest.mark.parametrize(
    "faults", [(), ("late",), ("late", "late"), ("", "not stored"), ("", "not stored", "late")]
)
def test_a_reply_gets_through_a_busy_moment(faults: tuple[str, ...]) -> None:
    """Whatever call failed, the same reply comes again, under the same number."""
    federation = Federation(*faults)
    Link(7, federation).send(reply(), 0.1)  # type: ignore[arg-type]
    assert len(set(federation.sent)) == 1
    assert federation.objects == set(federation.sent)


def test_a_federation_that_stays_away_is_out_of_reach() -> None:
    federation = Federation(*["late"] * 9)
    with pytest.raises(LinkLostError):
        Link(7, federation).send(reply(), 0.1)  # type: ignore[arg-type]
    assert not federation.sent


def test_an_object_that_is_never_stored_ends_no_process() -> None:
    """Flower says so with an error of its own, which a device's process does not know."""
    federation = Federation("", "locked", "", "locked", "", "locked")
    with pytest.raises(LinkLostError, match="ObjectPushError"):
        Link(7, federation).send(reply(), 0.1)  # type: ignore[arg-type]
