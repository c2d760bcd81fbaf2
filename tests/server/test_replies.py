"""Replies are read one by one as they become whole, and by what the SuperLink vouches for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import PullObjectResponse
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid

from server.deployment.journal import Journal
from server.round.cohort import Cohort, Messenger
from server.round.replies import Replies
from server.round.setup import ask


class SuperLink:
    """What the ServerApp's client of the Runtime API gets to see."""

    def __init__(self) -> None:
        self.replies: dict[str, tuple[Message, Any]] = {}
        self.objects: dict[str, bytes] = {}
        self.unsent: set[str] = set()
        self.confirmed: list[str] = []

    def hold(self, reply: Message, *, whole: bool = True, outside: Message | None = None) -> None:
        reply.metadata.__dict__["_message_id"] = reply.object_id
        parts = {name: one.deflate() for name, one in get_all_nested_objects(reply).items()}
        self.objects |= parts
        self.unsent |= set() if whole else {list(parts)[-1]}
        envelope = message_to_proto(remove_content_from_message(outside or reply))
        envelope.metadata.message_id = reply.object_id
        self.replies[envelope.metadata.reply_to_message_id] = (envelope, get_object_tree(reply))

    def PullMessages(self, request: Any) -> PullAppMessagesResponse:  # noqa: N802
        there = [self.replies.pop(one) for one in request.message_ids if one in self.replies]
        return PullAppMessagesResponse(
            messages_list=[envelope for envelope, _ in there],
            message_object_trees=[tree for _, tree in there],
        )

    def PullObject(self, request: Any) -> PullObjectResponse:  # noqa: N802
        name = request.object_id
        there = name in self.objects and name not in self.unsent
        content = self.objects[name] if there else b""
        return PullObjectResponse(
            object_found=name in self.objects, object_available=there, object_content=content
        )

    def ConfirmMessageReceived(self, request: Any) -> None:  # noqa: N802
        self.confirmed.append(request.message_object_id)


@pytest.fixture
def superlink(monkeypatch: pytest.MonkeyPatch) -> SuperLink:
    for name in ("run_id", "task_id", "node_id"):
        monkeypatch.setattr(TaskIdentity, f"_{name}", 1)
    return SuperLink()


@pytest.fixture
def grid(superlink: SuperLink, monkeypatch: pytest.MonkeyPatch) -> HttpGrid:
    grid: Any = object.__new__(HttpGrid)
    monkeypatch.setattr(HttpGrid, "_runtime_client", superlink)
    grid.node = Node(node_id=1)
    grid._run = Run.create_empty(1)
    return grid  # type: ignore[no-any-return]


def message(node: int) -> Message:
    content = RecordDict({"confirm": ConfigRecord({"body": b"?"})})
    made = Message(content, dst_node_id=node, message_type="query")
    made.metadata.__dict__["_message_id"] = f"to-{node}"
    return made


def reply(node: int, body: bytes = b"!") -> Message:
    return Message(RecordDict({"confirm": ConfigRecord({"body": body})}), reply_to=message(node))


def senders(found: list[Message]) -> set[int]:
    return {one.metadata.src_node_id for one in found}


def test_one_that_is_not_whole_keeps_nobody_waiting(superlink: SuperLink, grid: HttpGrid) -> None:
    replies, wanted = Replies(grid), {"to-2", "to-3", "to-4"}
    superlink.hold(reply(2), whole=False)
    superlink.hold(reply(3))
    assert senders(replies.look(wanted)) == {3}
    assert replies.look({"to-2", "to-4"}) == []
    superlink.hold(reply(4))
    superlink.unsent.clear()
    found = replies.look({"to-2", "to-4"})
    assert senders(found) == {2, 4}
    assert {one.content.config_records["confirm"]["body"] for one in found} == {b"!"}
    assert len(superlink.confirmed) == 3
    assert replies.look({"to-2"}) == []  # each once


def test_one_that_will_never_be_whole_is_none(superlink: SuperLink, grid: HttpGrid) -> None:
    superlink.hold(reply(2), whole=False)
    for name in superlink.unsent:
        del superlink.objects[name]
    replies = Replies(grid)
    assert [replies.look({"to-2"}) for _ in range(2)] == [[], []]


@pytest.mark.parametrize("part", [0, 1, 2])
def test_content_that_nobody_can_read_is_no_reply(
    superlink: SuperLink, grid: HttpGrid, part: int
) -> None:
    superlink.hold(reply(2))
    superlink.objects[list(superlink.objects)[part]] = b"\xff nothing of Flower's"
    superlink.hold(reply(3, b"?!"))
    assert senders(Replies(grid).look({"to-2", "to-3"})) == {3}


def test_nobody_answers_in_anothers_name(superlink: SuperLink, grid: HttpGrid) -> None:
    """The content says that it is 3's; the SuperLink knows that 2 sent it."""
    superlink.hold(reply(3), outside=reply(2))
    (found,) = Replies(grid).look({"to-2", "to-3"})
    assert found.metadata.src_node_id == 2
    assert found.metadata.reply_to_message_id == "to-2"


def test_an_exchange_ends_at_its_deadline_with_what_is_whole(
    superlink: SuperLink, grid: HttpGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    superlink.hold(reply(2), whole=False)
    superlink.hold(reply(3))
    monkeypatch.setattr(
        HttpGrid,
        "push_messages",
        lambda _, sent: [f"to-{one.metadata.dst_node_id}" for one in sent],
    )
    cohort = Cohort(1, 0, [2, 3], lambda *_: False)
    messenger = Messenger(grid, deadline_s=0.2)
    answers, _ = messenger.exchange(ask(cohort, "confirm", {2: b"?", 3: b"?"}))
    assert answers == {3: b"!"}
    assert messenger.silent == {2}


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        ("DeclinedError", "DeclinedError"),
        ("ValueError at training.py:12", "malformed"),
        ("x\n2026-01-01 up ready", "malformed"),
        ("Declined\n", "malformed"),
        ("\x1b[2J", "malformed"),
        ("Declined at a.py:1 and more", "malformed"),
        ("Fehler at \N{LATIN SMALL LETTER U WITH DIAERESIS}.py:1", "malformed"),
        ("a" * 41, "malformed"),
        ("", "malformed"),
        (7, "malformed"),
        (b"DeclinedError", "malformed"),
    ],
)
def test_the_log_has_no_line_that_a_device_wrote(
    superlink: SuperLink, grid: HttpGrid, monkeypatch: pytest.MonkeyPatch, refused: Any, told: str
) -> None:
    content = RecordDict({"confirm": ConfigRecord({"refused": refused})})
    superlink.hold(Message(content, reply_to=message(2)))
    monkeypatch.setattr(HttpGrid, "push_messages", lambda *_: ["to-2"])
    cohort = Cohort(1, 0, [2], lambda *_: False)
    assert Messenger(grid, 1.0).exchange(ask(cohort, "confirm", {2: b"?"})) == ({}, {})
    assert cohort.refused == {2: told}


def test_what_a_process_says_moves_no_cursor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(tmp_path / "log")
    journal.write("superlink", "\x1b[2Ja\rb\nc \x9b d\u2028e ε")
    journal.close()
    line = (tmp_path / "log").read_text()
    assert line.endswith("superlink \\x1b[2Ja\\rb\\nc \\x9b d\\u2028e ε\n")
    assert capsys.readouterr().err == line


class Forgetful:
    """A Grid that loses what some nodes are first asked, or says that they are offline; a clock."""

    def __init__(self, there: set[int], lost: set[int], *, told: bool = False) -> None:
        self.there, self.lost, self.told, self.now = there, set(lost), told, 0.0
        self.asked: list[list[int]] = []
        self.contents: dict[int, list[Any]] = {}
        self._waiting: dict[str, Any] = {}

    def push_messages(self, messages: list[Message]) -> list[str | None]:
        nodes = [one.metadata.dst_node_id for one in messages]
        names = [f"{len(self.asked)}/{node}" for node in nodes]
        for node, name, sent in zip(nodes, names, messages, strict=True):
            self.contents.setdefault(node, []).append((sent.metadata.message_type, sent.content))
            offline = self.told and node not in self.there - self.lost
            if offline or node in self.there - self.lost:
                answer = RecordDict({one: ConfigRecord({"body": b"!"}) for one in sent.content})
                source = 1 if offline else node
                metadata = SimpleNamespace(src_node_id=source, reply_to_message_id=name)
                self._waiting[name] = SimpleNamespace(
                    metadata=metadata, has_error=lambda offline=offline: offline, content=answer
                )
        self.lost -= set(nodes)
        self.asked.append(nodes)
        return list(names)

    def pull_messages(self, names: set[str]) -> list[Any]:
        return [self._waiting.pop(name) for name in names if name in self._waiting]


def exchanged(
    grid: Forgetful, monkeypatch: pytest.MonkeyPatch, leg: str, *, again: bool
) -> dict[int, bytes]:
    def sleep(seconds: float) -> None:
        grid.now += seconds

    clock = SimpleNamespace(monotonic=lambda: grid.now, sleep=sleep)
    monkeypatch.setattr("server.round.cohort.time", clock)
    for name in ("run_id", "task_id", "node_id"):
        monkeypatch.setattr(TaskIdentity, f"_{name}", 1)
    members = list(range(2, 7))
    cohort = Cohort(1, 0, members, lambda *_: False)
    messenger = Messenger(grid, 60.0, again=again)  # type: ignore[arg-type]
    answers, _ = messenger.exchange(ask(cohort, leg, dict.fromkeys(members, b"?")))
    return answers


@pytest.mark.parametrize("leg", ["advertise", "share", "update", "confirm", "reveal"])
def test_who_did_not_hear_is_asked_once_more(monkeypatch: pytest.MonkeyPatch, leg: str) -> None:
    grid = Forgetful({2, 3, 4, 5, 6}, lost={3, 5})
    assert set(exchanged(grid, monkeypatch, leg, again=True)) == {2, 3, 4, 5, 6}
    assert grid.asked == [[2, 3, 4, 5, 6], [3, 5]]
    assert 10 <= grid.now < 12
    first, second = grid.contents[3]
    assert first == second


@pytest.mark.parametrize("lost", [{3, 5}, {2, 3, 4, 5, 6}])
def test_who_was_offline_for_a_moment_is_asked_once_more(
    monkeypatch: pytest.MonkeyPatch, lost: set[int]
) -> None:
    grid = Forgetful({2, 3, 4, 5, 6}, lost, told=True)
    assert set(exchanged(grid, monkeypatch, "update", again=True)) == {2, 3, 4, 5, 6}
    assert grid.asked == [[2, 3, 4, 5, 6], sorted(lost)]


@pytest.mark.parametrize(("told", "seconds"), [(False, 60), (True, 10)])
def test_who_is_gone_is_not_asked_for_ever(
    monkeypatch: pytest.MonkeyPatch, told: bool, seconds: float
) -> None:
    grid = Forgetful({2, 3, 4}, lost=set(), told=told)
    assert set(exchanged(grid, monkeypatch, "update", again=True)) == {2, 3, 4}
    assert grid.asked == [[2, 3, 4, 5, 6], [5, 6]]
    assert seconds <= grid.now < seconds + 3


@pytest.mark.parametrize(
    ("leg", "again", "lost"),
    [
        ("adopt", True, {3}),  # would be tried twice
        ("update", False, {3}),  # two processes could work for one simulated device at once
        ("update", True, {3, 4, 5}),  # most are silent: they may need the time
    ],
)
def test_others_are_asked_once(
    monkeypatch: pytest.MonkeyPatch, leg: str, again: bool, lost: set[int]
) -> None:
    grid = Forgetful({2, 3, 4, 5, 6}, lost)
    assert set(exchanged(grid, monkeypatch, leg, again=again)) == {2, 3, 4, 5, 6} - lost
    assert len(grid.asked) == 1
