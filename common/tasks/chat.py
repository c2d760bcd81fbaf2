"""The chat task: what was said to a person → what they answered, learnt by cross-entropy.

One example is one answer with the message before it (DESIGN 4, record level). Only the person's
own words carry a label; the prompt is the model's own chat template, so that an adapter fits the
way the assistant is served.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from common.records import Record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PRIMARY, BETTER = "perplexity", "lower"
READ_KINDS = frozenset({"message"})
HELD_OUT_SHARE = 0.2
MAX_PROMPT_TOKENS = 72
MAX_ANSWER_TOKENS = 40
MOST_NLL = 709.78  # the exp of more is no number of 64 bits, and raises


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
    """The person's answers in time order, each with the message before it.

    Consecutive messages of one author in one conversation are one message. Records without `at`
    keep file order, after all those with one.
    """
    found: list[Turn] = []
    for messages in _conversations(records).values():
        merged = _merge(messages)
        for before, answer in itertools.pairwise(merged):
            if answer.author == "me" and before.text and answer.text:
                found.append(Turn(before.text, answer.text, answer.at, answer.split))
    return sorted(found, key=lambda turn: (turn.at is None, turn.at or ""))


@dataclass(slots=True)
class _Message:
    author: str
    text: str
    at: str | None
    split: str | None


def _conversations(records: Sequence[Record]) -> dict[str, list[_Message]]:
    grouped: dict[str, list[_Message]] = {}
    for record in records:
        if record.kind == "message":
            values = record.values
            author = "me" if values["author"] == "me" else "other"
            message = _Message(author, values["text"].strip(), record.at, record.split)
            grouped.setdefault(values["conversation"], []).append(message)
    for messages in grouped.values():
        messages.sort(key=lambda message: (message.at is None, message.at or ""))
    return grouped


def _merge(messages: Sequence[_Message]) -> list[_Message]:
    merged: list[_Message] = []
    for message in messages:
        if merged and merged[-1].author == message.author:
            merged[-1].text = f"{merged[-1].text} {message.text}".strip()
        else:
            merged.append(_Message(message.author, message.text, message.at, message.split))
    return merged


def split(examples: Sequence[Turn], limit: int) -> tuple[list[Turn], list[Turn]]:
    """Train and held-out examples: marked ones as marked, else the latest 20 % are held out.

    At most `limit` training examples are kept, the latest.
    """
    marked = [turn for turn in examples if turn.split]
    if marked:
        train = [turn for turn in marked if turn.split == "train"]
        heldout = [turn for turn in marked if turn.split == "heldout"]
        return train[-limit:], heldout
    recent = list(examples)[-_most(limit) :]
    border = len(recent) - math.ceil(len(recent) * HELD_OUT_SHARE)
    return recent[:border], recent[border:]


def most_held_out(limit: int) -> int:
    """How many answers are held out beside `limit` training examples, unless they are marked."""
    return math.ceil(_most(limit) * HELD_OUT_SHARE)


def _most(limit: int) -> int:
    """Training and held-out examples together."""
    return math.ceil(limit / (1 - HELD_OUT_SHARE))


def tokenize(turn: Turn, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """Chat template, prompt and answer; the middle of a long prompt and a long answer's end go."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": turn.prompt}], tokenize=False, add_generation_prompt=True
    )
    prompt = tokenizer.encode(str(text), add_special_tokens=False)
    if (excess := len(prompt) - MAX_PROMPT_TOKENS) > 0:
        keep = MAX_PROMPT_TOKENS // 3  # the template's head stays, and the message's end
        prompt = prompt[:keep] + prompt[keep + excess :]
    answer = tokenizer.encode(f"{turn.answer}{tokenizer.eos_token}", add_special_tokens=False)
    answer = answer[:MAX_ANSWER_TOKENS]
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
