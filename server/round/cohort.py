"""The members of a round, and how to ask them all something: the one place that talks to a Grid."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.typing import ConfigRecordValues
from flwr.serverapp import Grid
from flwr.superlink.grid.http_grid import HttpGrid

from common.errors import PrivityError
from server.round.replies import Replies

log = logging.getLogger("privity.server")

LEGS = {
    "advertise": "query.advertise",
    "share": "query.share",
    "open": "query.open",
    "update": "train.update",
    "confirm": "query.confirm",
    "reveal": "query.reveal",
}
LOSSES_AT = tuple(leg for leg in LEGS if leg != "open")  # whom a seed drops stays the same
ADOPT = "adopt"
MESSAGE_TYPES = LEGS | {ADOPT: "query.adopt"}
REGISTRATION_DEADLINE_S = 60.0
FIRST_LOOK_S, SLOWEST_LOOK_S, LOOK_SHARE = 0.05, 1.0, 1 / 10  # of the time since the asking
REASON = re.compile(r"[A-Za-z]{1,40}", re.ASCII)  # it gets into the log
LEISURE = 2  # times as long as a look took
AGAIN_S, AGAIN_TIMES = 10.0, 4  # the least wait, and times as long as half of them took
LATE_S = 5.0  # past the deadline a message is still answered
Lost = Callable[[int, str], bool]
Content = Mapping[str, ConfigRecordValues]


@dataclass(slots=True)
class Cohort:
    """The nodes drawn for one attempt at one round, and who of them is still there.

    Attributes:
        lost: Simulated dropouts: a member lost at a leg hears and says nothing from then on.
        refused: Why a member's answer was none, by member.
    """

    number: int
    attempt: int
    members: list[int]
    lost: Lost
    refused: dict[int, str] = field(default_factory=dict)
    _gone: set[int] = field(default_factory=set)

    def hears(self, member: int, leg: str) -> bool:
        """Whether the member is still there when this leg begins; `True` for who is none."""
        if self.lost(member, leg):
            self._gone.add(member)
        return member not in self._gone


@dataclass(frozen=True, slots=True)
class Ask:
    """One leg of one round, put to the members that `contents` names."""

    cohort: Cohort
    leg: str
    contents: Mapping[int, Content]


class Messenger:
    """Carries asks to the nodes and their answers back, one exchange at a time.

    Flower hands a message out once, and gives up on those whose device was offline for a moment;
    one link that is cut would lose a device to the round, or hold up all until the deadline. So
    who is silent for much longer than others took is asked the same once more. A device answers
    that with the bytes of its first answer.

    Args:
        again: Ask once more in a leg; for devices that answer one message after another.

    Attributes:
        silent: Members that did not answer when they were last asked something.
    """

    def __init__(self, grid: Grid, deadline_s: float, *, again: bool = False) -> None:
        self._grid, self._deadline_s, self._again = grid, deadline_s, again
        self._look: Callable[[set[str]], Iterable[Message]] = (
            Replies(grid).look if isinstance(grid, HttpGrid) else grid.pull_messages
        )
        self.silent: set[int] = set()

    def exchange(
        self, now: Ask, ahead: Ask | None = None, *, enough: Callable[[], bool] = lambda: False
    ) -> tuple[dict[int, bytes], dict[int, bytes]]:
        """Put one leg of this round to its members and, along with it, one of the next.

        A member of both gets one message; a member of the next round alone gets that leg alone.

        Args:
            enough: Ends the waiting for those who have not answered yet.

        Returns:
            The answers to `now` and to `ahead`, by member; whoever gave none is missing.
        """
        asks = [ask for ask in (now, ahead) if ask]
        lasts = self._deadline_s + LATE_S if now.leg in LEGS else None
        messages = _messages(asks, lasts)
        replied = self._replies(messages, enough, again=self._again and now.leg in LEGS)
        self.silent |= {message.metadata.dst_node_id for message in messages}
        self.silent -= set(replied)
        answers = [_answers(ask, replied) for ask in asks]
        return answers[0], answers[1] if ahead else {}

    def _replies(
        self, messages: Sequence[Message], enough: Callable[[], bool], *, again: bool
    ) -> dict[int, Message]:
        """What came back within the deadline and before it was enough, by member.

        Flower's own `send_and_receive` looks every three seconds. This looks at once, then less and
        less often, so that a fast cohort is not kept waiting and a slow one costs little; and so
        seldom that a SuperLink with much to do has time for the devices.
        """
        begin, asked = time.monotonic(), Correspondence(self._grid, messages)
        again_s: float | None = None if again else inf
        while True:
            looked = time.monotonic()
            asked.take(self._look)
            now = time.monotonic()
            waited_s, left = now - begin, asked.left()
            given_up = not asked.open and again_s == inf
            if not left or given_up or enough() or waited_s > self._deadline_s:
                return asked.replies
            if again_s is None and (len(left) <= len(messages) / 2 or not asked.open):
                again_s = max(AGAIN_S, AGAIN_TIMES * waited_s)
            if again_s is not None and waited_s >= again_s:
                log.info("%d of %d devices are asked once more", len(left), len(messages))
                asked.send([_copy(one, waited_s) for one in left])
                again_s = inf
            pause = max(FIRST_LOOK_S, LOOK_SHARE * waited_s, LEISURE * (now - looked))
            time.sleep(min(pause, SLOWEST_LOOK_S))


class Correspondence:
    """Members who were sent a message each, and what they replied.

    Attributes:
        open: Members by the name of a message that they may still answer.
        replies: By member.
    """

    def __init__(self, grid: Grid, messages: Sequence[Message]) -> None:
        self._grid, self._messages = grid, messages
        self.open: dict[str, int] = {}
        self.replies: dict[int, Message] = {}
        self.send(messages)

    def send(self, messages: Sequence[Message]) -> None:
        """Send to some of the members; what Flower does not take nobody can answer."""
        names = self._grid.push_messages(messages) if messages else ()
        members = (one.metadata.dst_node_id for one in messages)
        self.open |= {name: one for name, one in zip(names, members, strict=False) if name}

    def take(self, look: Callable[[set[str]], Iterable[Message]]) -> None:
        """Take what has come. Flower's own word, that a member went offline, is no reply."""
        for reply in look(set(self.open)):
            member = self.open.pop(reply.metadata.reply_to_message_id)
            if reply.metadata.src_node_id == member:
                self.replies[member] = reply
        self.open = {name: one for name, one in self.open.items() if one not in self.replies}

    def left(self) -> list[Message]:
        """The messages of those who have not replied."""
        return [one for one in self._messages if one.metadata.dst_node_id not in self.replies]


def _copy(message: Message, age_s: float) -> Message:
    """A copy of a message for the same member, which expires when the first one does."""
    outside = message.metadata
    return Message(
        message.content,
        dst_node_id=outside.dst_node_id,
        message_type=outside.message_type,
        ttl=outside.ttl - age_s,
        group_id=_group(outside.group_id.partition("/")[0]),
    )


def _group(number: int | str) -> str:
    """A random group: whoever knew a message's digest could have Flower delete it."""
    return f"{number}/{secrets.token_hex(16)}"


def _messages(asks: Sequence[Ask], ttl: float | None) -> list[Message]:
    """One message for each member that can hear it, with a record for each leg it is asked.

    Args:
        ttl: Seconds after which nobody is handed it: whoever comes back later is not charged for
            a round that is over. None: Flower's half day.
    """
    parts: dict[int, dict[str, Content]] = {}
    for ask in asks:
        for member, content in ask.contents.items():
            if all(other.cohort.hears(member, ask.leg) for other in asks):
                parts.setdefault(member, {})[ask.leg] = content
    return [
        Message(
            RecordDict({leg: ConfigRecord(dict(content)) for leg, content in legs.items()}),
            dst_node_id=member,
            message_type=MESSAGE_TYPES[next(iter(legs))],
            ttl=ttl,
            group_id=_group(asks[0].cohort.number),
        )
        for member, legs in parts.items()
    ]


def _answers(ask: Ask, replies: Mapping[int, Message]) -> dict[int, bytes]:
    bodies = {m: _body(ask, m, replies[m]) for m in sorted(replies) if m in ask.contents}
    return {member: body for member, body in bodies.items() if body is not None}


def _body(ask: Ask, member: int, reply: Message) -> bytes | None:
    if reply.has_error():
        ask.cohort.refused[member] = f"error {reply.error.code}"
        return None
    content = reply.content.config_records.get(ask.leg, ConfigRecord())
    body = content.get("body")
    if not isinstance(body, bytes):
        reason = content.get("refused")
        told = isinstance(reason, str) and REASON.fullmatch(reason)
        ask.cohort.refused[member] = str(reason) if told else "malformed"
        return None
    return body


def wait_for_nodes(grid: Grid, wanted: int, deadline_s: float | None) -> None:
    """Return once at least `wanted` nodes are connected.

    Args:
        deadline_s: Seconds to wait; None waits for ever.

    Raises:
        PrivityError: When they are not in time.
    """
    end = None if deadline_s is None else time.monotonic() + deadline_s
    while (online := len(list(grid.get_node_ids()))) < wanted:
        if end is not None and time.monotonic() > end:
            raise PrivityError(f"{online} devices are connected; the run needs {wanted}.")
        time.sleep(0.5)


def poisson_sample(
    nodes: list[int], rate: float, seed: int, number: int, attempt: int
) -> list[int]:
    """Each node with probability `rate`, independently (Poisson sampling), from the run's seed."""
    return [
        node
        for index, node in enumerate(nodes)
        if uniform("cohort", seed, number, attempt, index) < rate
    ]


def uniform(*key: int | str) -> float:
    """A number in [0, 1) that depends on the key alone."""
    digest = hashlib.sha256("/".join(str(part) for part in key).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def simulated_losses(
    dropout: float, seed: int, number: int, attempt: int, nodes: list[int]
) -> Lost:
    """A share `dropout` of the nodes is lost in this round, each at a random leg."""
    position = {node: index for index, node in enumerate(nodes)}
    lost_at: dict[int, str] = {}
    for node, index in position.items():
        if uniform("dropout", seed, number, attempt, index) < dropout:
            choice = uniform("leg", seed, number, attempt, index)
            lost_at[node] = LOSSES_AT[int(choice * len(LOSSES_AT))]
    return lambda node, leg: lost_at.get(node) == leg
