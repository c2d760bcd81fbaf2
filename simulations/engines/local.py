"""A Grid without a network: every message calls the ClientApp in this process.

The same ServerApp and ClientApp objects run here, in Flower's simulation and in a deployment.
Only `LocalGrid` touches names that Flower does not document: `TaskIdentity`, and the private
fields of `Metadata` that a SuperLink would fill in.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Mapping

from flwr.app import Context, Error, Message, RecordDict
from flwr.app.user_config import UserConfigValue
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from common.settings import Settings
from simulations.report.display import Display
from simulations.report.watching import attempts_made, round_watch

Drop = Callable[[int, str], bool]
Watch = Callable[[int, str], None]
_FIRST_NODE = SUPERLINK_NODE_ID + 1  # 0 and 1 are not clients


class LocalGrid(Grid):
    """Nodes 2 … n+1, called one after another in the order of the messages."""

    def __init__(
        self,
        client_app: ClientApp,
        num_nodes: int,
        run_config: Mapping[str, UserConfigValue],
        *,
        run_id: int = 1,
        drop: Drop | None = None,
        watch: Watch | None = None,
        serialise: bool = True,
    ) -> None:
        """Make one Context per node, as Flower's simulation does.

        `drop(node_id, message_type)` loses the message: the node never sees it, and the answer is
        an error, as Flower gives it when a node does not reply in time. `watch(node_id,
        message_type)` hears of every answer. `serialise` sends content through Flower's protobuf
        form, so that a value a deployment could not carry fails here too, and no object is shared
        between the sides.
        """
        self._client_app = client_app
        self._drop = drop
        self._watch = watch
        self._serialise = serialise
        self._ids = itertools.count(1)
        self._replies: dict[str, Message] = {}
        self.set_run(Run.create_empty(run_id))
        self._contexts = {
            _FIRST_NODE + i: Context(
                run_id=run_id,
                node_id=_FIRST_NODE + i,
                node_config={"partition-id": i, "num-partitions": num_nodes},
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for i in range(num_nodes)
        }

    def set_run(self, run: Run) -> None:
        """Enter a run: from here on `Message(...)` may be built in this process."""
        self._run = run
        TaskIdentity.run_id = run.run_id
        TaskIdentity.task_id = 1
        TaskIdentity.node_id = SUPERLINK_NODE_ID

    @property
    def run(self) -> Run:
        """Return the run all messages belong to."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Build a message; the `Message` constructor does the same."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Name all nodes; a local node is always connected."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver at once; replies wait until they are pulled."""
        return [self._deliver(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand over each reply once."""
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Deliver and collect, without waiting for what was dropped.

        Real nodes work side by side, so each has `timeout` seconds of its own: one that took longer
        is too late.
        """
        ids: list[str] = []
        for message in messages:
            begin = time.monotonic()
            delivered = self._deliver(message)
            if timeout is None or time.monotonic() - begin < timeout:
                ids.append(delivered)
        return self.pull_messages(ids)

    def _deliver(self, message: Message) -> str:
        """Let the addressed node answer `message`; return the message's id."""
        node_id, kind = message.metadata.dst_node_id, message.metadata.message_type
        context = self._contexts[node_id]
        message_id = str(next(self._ids))
        message.metadata.__dict__.update(
            _message_id=message_id, _run_id=self._run.run_id, _src_node_id=SUPERLINK_NODE_ID
        )
        if self._drop is not None and self._drop(node_id, kind):
            lost = Error(code=ErrorCode.NODE_UNAVAILABLE, reason="lost")
            self._replies[message_id] = Message(lost, reply_to=message)
            return message_id
        delivered = self._carry(message)  # outside the try: what cannot be sent is the sender's
        try:
            answer = self._client_app(delivered, context)
            if not isinstance(answer, Message):
                raise TypeError(f"{kind} returned {type(answer).__name__}, not a Message")
            reply = self._carry(answer)
        except Exception as error:  # as in Flower: a failing client is an answer, not a crash
            reason = f"{type(error).__name__}: {error}"
            code = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
            reply = Message(Error(code=code, reason=reason), reply_to=message)
        reply.metadata.__dict__["_message_id"] = str(next(self._ids))
        self._replies[message_id] = reply
        if self._watch is not None:
            self._watch(node_id, kind)
        return message_id

    def _carry(self, message: Message) -> Message:
        """Return what arrives at the other end of the wire."""
        return message_from_proto(message_to_proto(message)) if self._serialise else message


def run_local(
    server_app: ServerApp, grid: LocalGrid, run_config: Mapping[str, UserConfigValue]
) -> Context:
    """Run a ServerApp to its end; its exceptions reach the caller."""
    context = Context(grid.run.run_id, SUPERLINK_NODE_ID, {}, RecordDict(), dict(run_config))
    server_app(grid, context)
    return context


def simulate_in_process(settings: Settings, display: Display) -> None:
    """Run the rounds that are left with the project's own two apps, in this process."""
    from client.app import app as client_app
    from server.app import app as server_app

    config = settings.to_dict()
    left = settings.rounds.count - attempts_made(settings.simulation)
    with round_watch(settings, display, left) as watch:
        grid = LocalGrid(client_app, settings.rounds.users, config, watch=watch)
        run_local(server_app, grid, config)
