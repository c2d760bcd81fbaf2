"""Flower 1.41's SecAgg+ with a server that we control: each member is Flower's own client mod.

A member answers the mod's four messages and keeps its state in a Flower `Context`, as on a node.
What the server may do with the answers is written with Flower's own functions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.app.message_type import MessageType
from flwr.client.mod import secaggplus_mod
from flwr.common import (
    Code,
    FitIns,
    FitRes,
    Status,
    bytes_to_ndarray,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize
from flwr.common.secure_aggregation.secaggplus_constants import (
    RECORD_KEY_CONFIGS,
    RECORD_KEY_STATE,
    Key,
    Stage,
)
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.compat.common import recorddict_compat as compat
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

from simulations.evidence.attacks.measure import Guess, Update, synthetic_update

# The defaults of its workflow, and weights of half the most.
CLIPPING_RANGE, TARGET_RANGE, MOD_RANGE, MAX_WEIGHT = 8.0, 1 << 22, 1 << 32, 1000.0
EXAMPLES = 500
MEMBERS, THRESHOLD = tuple(range(1, 9)), 5
VICTIM = 1

Keys: TypeAlias = tuple[bytes, bytes]  # for pair masks, for share encryption
Masked: TypeAlias = list[NDArray[Any]]  # the masked weight [1], the masked vector [dimension]
Train: TypeAlias = Callable[[Guess], Update]  # model in, fit result out


@dataclass(frozen=True, slots=True)
class Revealed:
    """The shares one member gave away, by their owner."""

    seeds: dict[int, bytes]
    keys: dict[int, bytes]


class FlowerMember:
    """A Flower client: the mod around a training function.

    Args:
        node: Node id.
        train: Model to fit result; the member's synthetic update when left out.
        examples: Example count, which is its weight.
        metrics: Metrics of the fit.
    """

    def __init__(
        self,
        node: int,
        train: Train | None = None,
        examples: int = EXAMPLES,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        self.node = node
        self._train = train or (lambda _: synthetic_update(node))
        self._examples, self._metrics = examples, dict(metrics or {})
        self._context = Context(
            run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={}
        )

    def answer(self, message: Message) -> Message:
        """The mod's reply to a message."""
        return secaggplus_mod(message, self._context, self._fit)

    def private_key(self) -> bytes:
        """The key of its pair masks, which a colluder hands to the server."""
        return cast(bytes, self._context.state.config_records[RECORD_KEY_STATE]["sk1"])

    def held(self, owner: int) -> tuple[bytes, bytes]:
        """Its shares of the owner's seed and private key, which a colluder hands over too."""
        state: Any = self._context.state.config_records[RECORD_KEY_STATE]
        at = state["sk1_share_dict:K"].index(owner)
        return state["rd_seed_share_dict:V"][at], state["sk1_share_dict:V"][at]

    def setup(self, threshold: int = THRESHOLD, shares: int = len(MEMBERS)) -> Keys:
        """First stage: the public keys."""
        sent = self._ask(
            Stage.SETUP,
            {
                Key.SAMPLE_NUMBER: shares,
                Key.SHARE_NUMBER: shares,
                Key.THRESHOLD: threshold,
                Key.CLIPPING_RANGE: CLIPPING_RANGE,
                Key.TARGET_RANGE: TARGET_RANGE,
                Key.MOD_RANGE: MOD_RANGE,
                Key.MAX_WEIGHT: MAX_WEIGHT,
            },
        )
        return sent[Key.PUBLIC_KEY_1], sent[Key.PUBLIC_KEY_2]

    def share(self, keys: Mapping[int, Keys]) -> dict[int, bytes]:
        """Second stage: encrypted shares by receiver, for those whose keys the server named."""
        sent = self._ask(Stage.SHARE_KEYS, {str(node): list(pair) for node, pair in keys.items()})
        return dict(zip(sent[Key.DESTINATION_LIST], sent[Key.CIPHERTEXT_LIST], strict=True))

    def mask(self, sealed: Iterable[tuple[int, bytes]]) -> Masked:
        """Third stage: train and mask, with everyone whose shares the server passed on."""
        pairs = list(sealed)
        configs = {
            Key.SOURCE_LIST: [node for node, _ in pairs],
            Key.CIPHERTEXT_LIST: [data for _, data in pairs],
        }
        sent = self._ask(Stage.COLLECT_MASKED_VECTORS, configs)
        return [bytes_to_ndarray(data) for data in sent[Key.MASKED_PARAMETERS]]

    def unmask(self, active: Sequence[int], dead: Sequence[int]) -> Revealed:
        """Fourth stage: a share for everyone whom the server names, on either list."""
        lists = {Key.ACTIVE_NODE_ID_LIST: list(active), Key.DEAD_NODE_ID_LIST: list(dead)}
        shares: list[bytes] = self._ask(Stage.UNMASK, lists)[Key.SHARE_LIST]
        return Revealed(
            dict(zip(active, shares[: len(active)], strict=True)),
            dict(zip(dead, shares[len(active) :], strict=True)),
        )

    def _ask(self, stage: str, configs: Mapping[str, Any]) -> Mapping[str, Any]:
        model = ndarrays_to_parameters([np.zeros(1, np.float32)])
        content = compat.fitins_to_recorddict(FitIns(model, {}), keep_input=True)
        content.config_records[RECORD_KEY_CONFIGS] = ConfigRecord({Key.STAGE: stage, **configs})
        with flower_task():
            reply = self.answer(Message(content, self.node, MessageType.TRAIN))
        return reply.content.config_records[RECORD_KEY_CONFIGS]

    def _fit(self, message: Message, _: Context) -> Message:
        given = compat.recorddict_to_fitins(message.content, keep_input=True)
        (model,) = parameters_to_ndarrays(given.parameters)
        fitted = ndarrays_to_parameters([self._train(model)])
        result = FitRes(Status(Code.OK, ""), fitted, self._examples, dict(self._metrics))
        return Message(compat.fitres_to_recorddict(result, keep_input=True), reply_to=message)


@dataclass(frozen=True, slots=True)
class SeenByServer:
    """What the server of an ordinary round holds once the masked vectors have arrived."""

    keys: dict[int, Keys]
    sealed: dict[int, dict[int, bytes]]  # by sender, then receiver
    masked: dict[int, Masked]


def until_masked(
    members: Mapping[int, FlowerMember],
    threshold: int = THRESHOLD,
    keys_for: Callable[[int, dict[int, Keys]], dict[int, Keys]] = lambda _, keys: keys,
    shares: int | None = None,
) -> SeenByServer:
    """Three stages of a round; `keys_for` chooses which keys a member is told, `shares` of them."""
    count = shares or len(members)
    keys = {node: member.setup(threshold, count) for node, member in members.items()}
    sealed = {node: member.share(keys_for(node, keys)) for node, member in members.items()}
    masked = {
        node: member.mask([(peer, sent[node]) for peer, sent in sealed.items() if node in sent])
        for node, member in members.items()
    }
    return SeenByServer(keys, sealed, masked)


def everyone() -> dict[int, FlowerMember]:
    """Members with their synthetic updates."""
    return {node: FlowerMember(node) for node in MEMBERS}


def rebuilt(shares: Collection[bytes], threshold: int = THRESHOLD) -> bytes:
    """The secret behind at least `threshold` shares."""
    return combine_shares(list(shares)[:threshold])


def pair_secret(private: bytes, public: bytes) -> bytes:
    """What two members mask with: one's private key and the other's public key."""
    return generate_shared_key(bytes_to_private_key(private), bytes_to_public_key(public))


def strip(masked: Masked, node: int, seed: bytes | None, pairs: Mapping[int, bytes]) -> Masked:
    """The vector without the node's private mask (if its seed is given) and those pair masks."""
    shapes = get_parameters_shape(masked)
    if seed is not None:
        masked = parameters_subtraction(masked, pseudo_rand_gen(seed, MOD_RANGE, shapes))
    for peer, secret in pairs.items():
        mask = pseudo_rand_gen(secret, MOD_RANGE, shapes)
        take_away = parameters_subtraction if node > peer else parameters_addition
        masked = take_away(masked, mask)
    return parameters_mod(masked, MOD_RANGE)


def read(clear: Masked, members: int = 1) -> Guess:
    """The weighted mean of so many members' fit results, from unmasked weight and vector."""
    weight = int(clear[0][0])
    (vector,) = dequantize(clear[1:], CLIPPING_RANGE, TARGET_RANGE)
    vector -= (members - 1) * CLIPPING_RANGE  # each member's integers start at 0
    guess: Guess = vector * (TARGET_RANGE / max(weight, 1))
    return guess


@contextmanager
def flower_task() -> Iterator[list[str]]:
    """The identity without which Flower makes no message; its log goes to the yielded list."""
    names = ("_task_id", "_run_id", "_node_id")
    before = {name: getattr(TaskIdentity, name) for name in names}
    log, lines = logging.getLogger("flwr"), _Lines()
    handlers, propagate, log.handlers, log.propagate = log.handlers, log.propagate, [lines], False
    try:
        for name in names:
            setattr(TaskIdentity, name, 1)
        yield lines.lines
    finally:
        log.handlers, log.propagate = handlers, propagate
        for name, value in before.items():
            setattr(TaskIdentity, name, value)


class _Lines(logging.Handler):
    """Keeps warnings and errors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(record.getMessage())
