"""The chat task: which turns become examples, what is held out, what is predicted."""

from __future__ import annotations

import math

import pytest

from common.models import load_tokenizer
from common.records.records import Record, record_of
from common.tasks.chat import MAX_ANSWER_TOKENS, Turn, tokenize, turns
from common.tasks.language import LanguageScore


def message(author: str, text: str, at: str | None = None, conversation: str = "c") -> Record:
    values = {"author": author, "text": text, "conversation": conversation}
    return record_of("message", values, at)


def test_an_example_is_my_answer_with_the_message_before_it() -> None:
    spoken = [("other", "hi"), ("me", "hello"), ("other", "bye"), ("me", "so long")]
    found = turns([message(author, text) for author, text in spoken])
    assert [(turn.prompt, turn.answer) for turn in found] == [("hi", "hello"), ("bye", "so long")]


def test_of_consecutive_messages_the_last_is_answered_and_the_first_answers() -> None:
    found = turns(
        [message("other", "a"), message("assistant", "b"), message("me", "c"), message("me", "d")]
    )
    assert [(turn.prompt, turn.answer) for turn in found] == [("b", "c")]


def test_an_empty_message_is_none() -> None:
    found = turns(
        [message("other", "a"), message("me", " "), message("other", ""), message("me", "b")]
    )
    assert [(turn.prompt, turn.answer) for turn in found] == [("a", "b")]


def test_a_message_without_a_time_does_not_part_those_with_one_nor_join_their_end() -> None:
    first, second, third = (f"2026-01-01T00:00:0{i}Z" for i in range(3))
    records = [
        message("other", "hello?", first), message("other", "when was that?"),
        message("me", "no idea"), message("me", "hi", second), message("other", "bye", third),
    ]  # fmt: skip
    found = [(turn.prompt, turn.answer) for turn in turns(records)]
    assert found == [("hello?", "hi"), ("when was that?", "no idea")]
    late = turns([message("other", "bye", third), message("me", "undated")])
    assert late == []


def test_an_opening_of_mine_is_no_answer_and_conversations_do_not_mix() -> None:
    assert turns([message("me", "first"), message("other", "second")]) == []
    assert (
        turns([message("other", "a", conversation="1"), message("me", "b", conversation="2")]) == []
    )


def test_time_orders_examples_whatever_the_file_order() -> None:
    records = [
        message("other", "late", "2026-02-01T00:00:00Z", "2"),
        message("me", "later", "2026-02-01T00:00:01Z", "2"),
        message("other", "early", "2026-01-01T00:00:00Z", "1"),
        message("me", "earlier", "2026-01-01T00:00:01Z", "1"),
    ]
    assert [turn.answer for turn in turns(records)] == ["earlier", "later"]


@pytest.mark.parametrize("prompt", ["short", "long words " * 200])
def test_only_the_answer_is_predicted_and_it_ends(prompt: str) -> None:
    tokenizer = load_tokenizer("tiny")
    tokens = tokenize(Turn(prompt, "yes"), tokenizer)
    predicted = [label for label in tokens.labels if label >= 0]
    assert tokenizer.decode(predicted) == "yes<|im_end|>"
    assert len(tokens.ids) == len(tokens.labels)
    prompted = tokenizer.decode(list(tokens.ids)[: -len(predicted)])
    assert prompted.startswith("<|im_start|>user\n")
    assert prompted.endswith("<|im_end|>\n<|im_start|>assistant\n")
    long = tokenize(Turn("p", "word " * 500), tokenizer)
    assert sum(label >= 0 for label in long.labels) == MAX_ANSWER_TOKENS


def test_scores_add_up() -> None:
    metrics = (LanguageScore(6.0, 1, 4) + LanguageScore(2.0, 2, 4)).metrics()
    assert metrics == {"nll": 1.0, "perplexity": math.e, "next_token_accuracy": 3 / 8}


def test_personal_text_is_not_in_a_repr() -> None:
    assert "secret" not in repr(Turn("secret", "secret")) + repr(message("me", "secret"))
