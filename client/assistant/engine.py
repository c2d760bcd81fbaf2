"""What answers: one interface, so that the rest does not know which engine it has.

Both engines get the token ids of the tokenizer that training uses; an adapter is served exactly
the template that it was fitted to. Nothing here opens a network connection.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Self, TypedDict

from common.adapter.plan import AdapterPlan, Vector
from common.adapter.weights import Personal, Shared, whole
from common.errors import InputError
from common.models import gguf_file, require_speaking
from common.models.tokens import answer_ids, prompt_ids
from common.settings import Settings
from common.tasks.task import NOTHING, Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLES = ("system", "user", "assistant")
MAX_TOKENS = 256
TEMPERATURE = 0.7
TOP_K, TOP_P = 40, 0.95  # llama.cpp's defaults, in its order: then the temperature
CONTEXT = 2048  # tokens of conversation that are kept in view


Pieces = Generator[str, None, None]  # of an answer's text; closing it stops the answer


class ChatMessage(TypedDict):
    """One message of a conversation; `role` is one of `ROLES`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Scales:
    """How much of each adapter takes part in one request: 0 none, 1 as it was fitted."""

    shared: float = 1.0
    personal: float = 1.0


BASE, FULL = Scales(0.0, 0.0), Scales()


@dataclass(frozen=True, slots=True, repr=False)
class Loaded:
    """An adapter as an engine takes it: A and B of every site, flattened."""

    plan: AdapterPlan
    vector: Vector


class Engine(ABC):
    """A loaded model with the adapters of one person. Requests are answered one at a time."""

    def __init__(
        self,
        description: str,
        tokenizer: PreTrainedTokenizerBase,
        context: int,
        adapters: tuple[str, ...],
    ) -> None:
        self.description = description  # one line for the person
        self.tokenizer = tokenizer
        self.context = context  # tokens
        self.adapters = adapters  # names of those loaded: "shared", "personal"

    def reply(
        self,
        messages: Sequence[ChatMessage],
        *,
        max_tokens: int = MAX_TOKENS,
        temperature: float = TEMPERATURE,
        seed: int | None = None,
        scales: Scales = FULL,
    ) -> Pieces:
        """The answer to a conversation, piece by piece; closing it stops it.

        The oldest messages are left out when the conversation no longer fits.

        Args:
            max_tokens: At most this long, and at most half of what the model sees.
            temperature: 0 always takes the likeliest token.
            seed: Of the sampling; None draws one from the system.

        Raises:
            InputError: For no messages, an unknown role, or a last message that does not fit.
        """
        max_tokens = min(max_tokens, self.context // 2)
        ids = conversation_ids(messages, self.tokenizer, self.context - max_tokens)
        chosen = secrets.randbits(31) if seed is None else seed % 2**31
        return self._generate(ids, max_tokens, temperature, chosen, scales)

    def log_likelihood(self, messages: Sequence[ChatMessage], *, scales: Scales = FULL) -> float:
        """Log-probability, in nats, of the last message and its end, given those before it."""
        tokens = answer_tokens(messages, self.tokenizer, self.context)
        return sum(self.token_log_likelihoods(tokens, scales))

    @abstractmethod
    def token_log_likelihoods(self, tokens: Encoded, scales: Scales = FULL) -> list[float]:
        """Log-probability, in nats, of each token that carries a label, in order."""

    @abstractmethod
    def _generate(
        self, ids: list[int], max_tokens: int, temperature: float, seed: int, scales: Scales
    ) -> Pieces: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Give the model's memory back. The engine cannot be used afterwards."""


def open_engine(
    settings: Settings,
    shared: Shared | None = None,
    personal: Personal | None = None,
    *,
    kept: Vector | None = None,
    threads: int = 0,
) -> Engine:
    """llama.cpp where the package and a GGUF of the model are there, else PyTorch.

    Args:
        kept: The parts of the shared adapter that this device keeps (FedSA's B).
        threads: For computing; 0 takes all cores that this process may use.

    Raises:
        InputError: When the model cannot be loaded, or cannot answer in words.
    """
    require_speaking(settings.model.name)
    adapters = {}
    if shared is not None:
        adapters["shared"] = Loaded(shared.plan, whole(shared, kept))
    if personal is not None:
        adapters["personal"] = Loaded(personal.plan, personal.vector)
    reason = without_llamacpp(settings.model.name)
    if not reason:
        from client.assistant.llamacpp import LlamaCppEngine

        try:
            return LlamaCppEngine(settings.model.name, adapters, threads=threads)
        except InputError as error:
            reason = error.message
    from client.assistant.torch_engine import TorchEngine

    return TorchEngine(settings, adapters, reason=reason)


def without_llamacpp(model: str) -> str:
    """Why llama.cpp cannot serve this model; empty when nothing speaks against it."""
    if find_spec("xllamacpp") is None:
        return "xllamacpp is not installed"
    return "" if gguf_file(model) else "the model has no GGUF file"


def conversation_ids(
    messages: Sequence[ChatMessage], tokenizer: PreTrainedTokenizerBase, room: int
) -> list[int]:
    """Token ids of a conversation up to the answer's start, without its oldest turns if need be.

    A system message at the start stays.

    Raises:
        InputError: As `Engine.reply` does.
    """
    if not messages:
        raise InputError("There is no message to answer.", "Send at least one.")
    for message in messages:
        if message["role"] not in ROLES:
            raise InputError("A message has an unknown role.", f"Known: {', '.join(ROLES)}.")
    head = list(messages[:1]) if messages[0]["role"] == "system" else []
    rest = list(messages[len(head) :])
    while rest or head:
        plain = [{"role": one["role"], "content": one["content"]} for one in head + rest]
        ids = prompt_ids(plain, tokenizer)
        if len(ids) <= room:
            return ids
        if len(rest) <= 1:
            break
        rest = _from_next_question(rest)
    raise InputError(
        f"The message has more than the {room} tokens that fit.", "Send a shorter one."
    )


def _from_next_question(messages: list[ChatMessage]) -> list[ChatMessage]:
    """The conversation without its oldest turn: it starts with a message of the user again."""
    for start in range(1, len(messages)):
        if messages[start]["role"] == "user":
            return messages[start:]
    return messages[-1:]


def answer_tokens(
    messages: Sequence[ChatMessage], tokenizer: PreTrainedTokenizerBase, context: int = CONTEXT
) -> Encoded:
    """A conversation whose last message, and its end, carry the labels."""
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise InputError("The last message must be an answer of the assistant.")
    answer = answer_ids(messages[-1]["content"], tokenizer)
    prompt = conversation_ids(messages[:-1], tokenizer, context - len(answer))
    return Encoded(tuple(prompt + answer), (NOTHING,) * len(prompt) + tuple(answer))
