"""The chat task: what was said to a person → what they answered, learnt by cross-entropy.

One example is a message by somebody else that a message of the person's follows directly (DESIGN 4,
record level). Only the person's own words carry a label; the prompt is the model's own chat
template, so that an adapter fits the way the assistant is served.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from common.records import Record
from common.tokens import answer_ids, prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PRIMARY, BETTER = "perplexity", "lower"
READ_KINDS = frozenset({"message"})
MAX_PROMPT_TOKENS = 72
MAX_ANSWER_TOKENS = 40
MOST_NLL = math.log(sys.float_info.max)  # beyond it a perplexity is infinite


@dataclass(frozen=True, slots=True)
class Turn:
    """One example: a message to the person and their answer. Redacted repr."""

    prompt: str = field(repr=False)
    answer: str = field(repr=False)
    at: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenised example; `labels` is -1 where there is nothing to predict. Both [length]."""

    ids: tuple[int, ...] = field(repr=False)
    labels: tuple[int, ...] = field(repr=False)


def turns(records: Sequence[Record]) -> list[Turn]:
    """The person's answers in time order, each with the message directly before it.

    Those without `at` come after all those with one, in file order. Messages that are empty count
    for nothing.

    One message more or less is at most two edits of the examples, one that goes and one that comes:
    a message x put between a and b takes the pair (a, b) away and brings (a, x) and (x, b), of
    which the first is an example only if x is the person's, the second only if it is not. So
    nothing is merged, which would put a message into several examples, and messages with a time and
    those without are two sequences, of which a message is in one.
    """
    found = [
        Turn(before.values["text"].strip(), answer.values["text"].strip(), answer.at, answer.split)
        for sequence in _sequences(records)
        for before, answer in itertools.pairwise(sequence)
        if before.values["author"] != "me" and answer.values["author"] == "me"
    ]
    return sorted(found, key=lambda turn: (turn.at is None, turn.at or ""))


def _sequences(records: Sequence[Record]) -> Iterable[list[Record]]:
    """Each conversation's messages with a time, by time, and those without, as they stand."""
    grouped: dict[tuple[str, bool], list[Record]] = {}
    for record in records:
        if record.kind == "message" and record.values["text"].strip():
            place = (record.values["conversation"], record.at is None)
            grouped.setdefault(place, []).append(record)
    for messages in grouped.values():
        messages.sort(key=lambda message: message.at or "")  # stable
    return grouped.values()


def tokenize(turn: Turn, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """Chat template, prompt and answer; the middle of a long prompt and a long answer's end go."""
    prompt = prompt_ids([{"role": "user", "content": turn.prompt}], tokenizer)
    if (excess := len(prompt) - MAX_PROMPT_TOKENS) > 0:
        keep = MAX_PROMPT_TOKENS // 3  # the template's head stays, and the message's end
        prompt = prompt[:keep] + prompt[keep + excess :]
    answer = answer_ids(turn.answer, tokenizer)[:MAX_ANSWER_TOKENS]
    return Tokens(tuple(prompt + answer), (-1,) * len(prompt) + tuple(answer))


@dataclass(frozen=True, slots=True)
class Score:
    """Additive figures over held-out tokens."""

    nll: float = 0.0
    correct: int = 0
    tokens: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(self.nll + other.nll, self.correct + other.correct, self.tokens + other.tokens)

    def metrics(self) -> dict[str, float]:
        """Perplexity exp(mean NLL), mean NLL in nats a token, next-token accuracy."""
        nll = self.nll / self.tokens
        return {
            "perplexity": math.inf if nll > MOST_NLL else math.exp(nll),
            "nll": nll,
            "next_token_accuracy": self.correct / self.tokens,
        }
