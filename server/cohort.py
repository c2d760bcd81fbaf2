"""The members of a round, and how to ask them all something: the one place that talks to a Grid."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.typing import ConfigRecordValues
from flwr.serverapp import Grid

from common.errors import PrivityError

LEGS = {
    "advertise": "query.advertise",
    "share": "query.share",
    "update": "train.update",
    "confirm": "query.confirm",
    "reveal": "query.reveal",
}
REGISTRATION_DEADLINE_S = 60.0
Lost = Callable[[int, str], bool]
Content = dict[str, bytes]


class Cohort:
    """A fixed set of nodes, asked leg by leg.

    Args:
        lost: Simulated dropouts: a member lost at a leg hears and says nothing from then on.
    """

    def __init__(
        self, grid: Grid, members: list[int], group: str, deadline_s: float, lost: Lost
    ) -> None:
        self.members = members
        self.refused: dict[int, str] = {}
        self._grid, self._group, self._deadline_s, self._lost = grid, group, deadline_s, lost
        self._gone: set[int] = set()

    def ask(self, leg: str, contents: Mapping[int, Content]) -> dict[int, bytes]:
        """Send each member its content; the answers of those that gave one, by member."""
        self._gone |= {member for member in contents if self._lost(member, leg)}
        messages = [
            Message(
                RecordDict({"privity": ConfigRecord(dict[str, ConfigRecordValues](content))}),
                dst_node_id=member,
                message_type=LEGS[leg],
                group_id=self._group,
            )
            for member, content in contents.items()
            if member not in self._gone
        ]
        if not messages:
            return {}
        replies = self._grid.send_and_receive(messages, timeout=self._deadline_s)
        answers = {reply.metadata.src_node_id: reply for reply in replies}
        return {
            member: body
            for member in sorted(answers)
            if (body := self._body(member, answers[member])) is not None
        }

    def _body(self, member: int, reply: Message) -> bytes | None:
        if reply.has_error():
            self.refused[member] = f"error {reply.error.code}"
            return None
        content = reply.content.config_records.get("privity", ConfigRecord())
        body = content.get("body")
        if not isinstance(body, bytes):
            self.refused[member] = str(content.get("refused", "malformed"))[:64]
            return None
        return body


def wait_for_nodes(grid: Grid, wanted: int) -> list[int]:
    """All nodes, once at least `wanted` are connected.

    Raises:
        PrivityError: When they are not within a minute.
    """
    end = time.monotonic() + REGISTRATION_DEADLINE_S
    while len(nodes := sorted(grid.get_node_ids())) < wanted:
        if time.monotonic() > end:
            raise PrivityError(f"{len(nodes)} devices are connected; the run needs {wanted}.")
        time.sleep(0.5)
    return nodes


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
    legs = list(LEGS)
    position = {node: index for index, node in enumerate(nodes)}
    lost_at: dict[int, str] = {}
    for node, index in position.items():
        if uniform("dropout", seed, number, attempt, index) < dropout:
            choice = uniform("leg", seed, number, attempt, index)
            lost_at[node] = legs[int(choice * len(legs))]
    return lambda node, leg: lost_at.get(node) == leg
