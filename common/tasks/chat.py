"""The chat task: what was said to a person → what they answered, learnt by cross-entropy.

One example is a message by somebody else that a message of the person's follows directly (DESIGN 4,
record level). Only the person's own words carry a label; the prompt is the model's own chat
template, so that an adapter fits the way the assistant is served.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from common.models.tokens import answer_ids, prompt_ids
from common.records.records import AUTHORS, Message, Record
from common.tasks.language import LanguageTask
from common.tasks.task import NOTHING, Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_PROMPT_TOKENS = 72
MAX_ANSWER_TOKENS = 40


@dataclass(frozen=True, slots=True)
class Turn:
    """One example: a message to the person and their answer. Redacted repr."""

    prompt: str = field(repr=False)
    answer: str = field(repr=False)
    at: str | None = None
    split: str | None = None

    @property
    def content(self) -> tuple[str, str]:
        """Prompt and answer."""
        return self.prompt, self.answer


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
        Turn(before.text.strip(), answer.text.strip(), answer.at, answer.split)
        for sequence in _sequences(records)
        for before, answer in itertools.pairwise(sequence)
        if before.author != "me" and answer.author == "me"
    ]
    return sorted(found, key=lambda turn: (turn.at is None, turn.at or ""))


def _sequences(records: Sequence[Record]) -> Iterable[list[Message]]:
    """Each conversation's messages with a time, by time, and those without, as they stand."""
    grouped: dict[tuple[str, bool], list[Message]] = {}
    for record in records:
        if isinstance(record, Message) and record.text.strip():
            place = (record.conversation, record.at is None)
            grouped.setdefault(place, []).append(record)
    for messages in grouped.values():
        messages.sort(key=lambda message: message.at or "")  # stable
    return grouped.values()


def tokenize(turn: Turn, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Chat template, prompt and answer; the middle of a long prompt and a long answer's end go."""
    prompt = prompt_ids([{"role": "user", "content": turn.prompt}], tokenizer)
    if (excess := len(prompt) - MAX_PROMPT_TOKENS) > 0:
        keep = MAX_PROMPT_TOKENS // 3  # the template's head stays, and the message's end
        prompt = prompt[:keep] + prompt[keep + excess :]
    answer = answer_ids(turn.answer, tokenizer)[:MAX_ANSWER_TOKENS]
    return Encoded(tuple(prompt + answer), (NOTHING,) * len(prompt) + tuple(answer))


class Chat(LanguageTask):
    """Answer as the person would."""

    name = "chat"
    kinds = frozenset({Message.kind})
    source = "messages"
    one, several = "answer", "answers"
    hidden = "one answer with the message before it"
    overlapping = True
    rule = "An answer is a message of the person directly after one of somebody else"

    def examples(self, records: Sequence[Record]) -> list[Turn]:
        """As `turns` says."""
        return turns(records)

    def encode(self, example: Turn, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """As `tokenize` says."""
        return tokenize(example, tokenizer)

    def made_up(self, chance: random.Random, words: Sequence[str]) -> Turn:
        """Two words and an answer of three."""
        return Turn(" ".join(chance.choices(words, k=2)), " ".join(chance.choices(words, k=3)))

    def archive(self, chance: random.Random, words: Sequence[str], count: int) -> list[Record]:
        """Two conversations of anybody with anybody; all, some or none of it with a time."""
        timed = chance.choice((0.0, 0.5, 1.0))
        return [
            Message(
                text=" ".join(chance.choices(words, k=chance.choice((0, 1, 2, 3)))),
                author=chance.choice(AUTHORS),
                conversation=chance.choice("ab"),
                at=f"2026-01-01T{number // 60:02}:{number % 60:02}:00Z"
                if chance.random() < timed
                else None,
            )
            for number in range(count)
        ]

    def spoken(self, question: str, answer: str) -> Turn:
        """One turn."""
        return Turn(question, answer)
