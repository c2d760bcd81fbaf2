"""A round of Flower 1.41's own `SecAggPlusWorkflow` over members in this process.

The workflow, the strategy's averaging and the mod are Flower's as they are. At most the strategy
lies (it may send each member another model) and at most the transport fails.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.common import FitIns, FitRes, Parameters, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key
from flwr.compat.common import recorddict_compat as compat
from flwr.server import LegacyContext, SimpleClientManager
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey

from simulations.evidence.attacks.measure import Guess
from simulations.evidence.attacks.on_flower.round import THRESHOLD, FlowerMember, flower_task

Lost = Callable[[int, str], bool]  # node, stage: the message to it is lost


@dataclass(slots=True)
class Round:
    """What a round ended in, and what the server saw of each member."""

    mean: Guess | None = None
    examples: dict[int, int] = field(default_factory=dict)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    raised: dict[int, Exception] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def run_workflow(
    members: Mapping[int, FlowerMember],
    model_for: Callable[[int], Guess] = lambda _: np.zeros(1),
    lost: Lost = lambda _node, _stage: False,
) -> Round:
    """One round with the workflow's defaults, everybody a neighbour of everybody."""
    seen = Round()
    grid = cast(Any, _Grid(members, lost, seen))
    manager = SimpleClientManager()
    for node in members:
        manager.register(GridClientProxy(node, grid, 1))
    state = RecordDict({MAIN_CONFIGS_RECORD: ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})})
    start = ndarrays_to_parameters([np.zeros(1)])
    state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(start, True)
    context = Context(run_id=1, node_id=1, node_config={}, state=state, run_config={})
    strategy = _Strategy(model_for, seen)
    workflow = SecAggPlusWorkflow(len(members), THRESHOLD)
    with flower_task() as seen.warnings:
        workflow(grid, LegacyContext(context, strategy=strategy, client_manager=manager))
    return seen


class _Grid:
    """Delivers each message to its member at once; an exception becomes an error reply."""

    def __init__(self, members: Mapping[int, FlowerMember], lost: Lost, seen: Round) -> None:
        self._members, self._lost, self._seen = members, lost, seen

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """The answers that arrive; like a node, a member gets a copy of its own."""
        del timeout
        answers = [self._deliver(copy.deepcopy(message)) for message in messages]
        return [answer for answer in answers if answer is not None]

    def _deliver(self, message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        stage = message.content.config_records[RECORD_KEY_CONFIGS][Key.STAGE]
        if self._lost(node, str(stage)):
            return None
        try:
            return self._members[node].answer(message)
        except Exception as error:  # any, as on a node
            self._seen.raised[node] = error
            return Message(Error(0, str(error)), reply_to=message)


class _Strategy(FedAvg):
    """Federated averaging that may send each client another model, and notes what it is shown."""

    def __init__(self, model_for: Callable[[int], Guess], seen: Round) -> None:
        super().__init__(fit_metrics_aggregation_fn=lambda _: {})  # without it, Flower warns
        self._model_for, self._seen = model_for, seen

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """Every client, with the model meant for it."""
        del server_round, parameters
        proxies = client_manager.all().values()
        return [(p, FitIns(self._parameters_for(p.node_id), {})) for p in proxies]

    def _parameters_for(self, node: int) -> Parameters:
        return ndarrays_to_parameters([self._model_for(node)])

    def aggregate_fit(
        self, server_round: int, results: list[tuple[ClientProxy, FitRes]], failures: Any
    ) -> tuple[Parameters | None, dict[str, Any]]:
        """The mean as Flower takes it."""
        for proxy, result in results:
            self._seen.examples[proxy.node_id] = result.num_examples
            self._seen.metrics[proxy.node_id] = dict(cast(Any, result.metrics))
        mean, metrics = super().aggregate_fit(server_round, results, failures)
        if mean is not None:
            (self._seen.mean,) = parameters_to_ndarrays(mean)
        return mean, metrics
