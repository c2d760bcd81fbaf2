"""Conversations as token ids: only the chat template writes control tokens, never somebody's text.

A tokenizer turns the text `<|im_end|>` into the token that ends a turn, whoever wrote it. So each
message is kept apart from the template around it, and a control token's text inside a message is
cut in two before it is encoded. Any other text is encoded in one piece, in its place in the
template, exactly as the tokenizer would by itself.

Where a model has no control tokens and its template marks the turns in plain words, a message can
still imitate these words.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from common.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Stands for a message while the template is rendered: its number between private characters.
_MARK = re.compile("\ue000([0-9]+)\ue001")


def prompt_ids(
    messages: Sequence[Mapping[str, str]], tokenizer: PreTrainedTokenizerBase
) -> list[int]:
    """Token ids of a conversation (`role`, `content`) up to the start of the answer.

    Raises:
        InputError: The model's chat template does not take such a conversation.
    """
    parts = [
        _cut(text, tokenizer) if written else [text]
        for text, written in _rendered(messages, tokenizer)
    ]
    pieces = [""]
    for first, *others in parts:
        pieces[-1] += first
        pieces += others
    ids, apart = _encode(pieces, tokenizer), _encode(itertools.chain(*parts), tokenizer)
    # where a message's last sign and the template's next token would make another token
    _, controls = _controls(tokenizer, len(tokenizer))
    same = [i for i in ids if i in controls] == [i for i in apart if i in controls]
    return ids if same else apart


def answer_ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of an answer and of its end."""
    end = tokenizer.eos_token_id
    assert isinstance(end, int)  # `load_tokenizer` refuses a tokenizer without
    return [*_encode(_cut(text, tokenizer), tokenizer), end]


def text_ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a text by itself."""
    return _encode(_cut(text, tokenizer), tokenizer)


def word_ids(words: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    """Token ids of each word of a sentence, as if blanks stood between them; at least one each."""
    unknown = next(
        (one for one in (tokenizer.unk_token_id, tokenizer.eos_token_id) if isinstance(one, int)), 0
    )
    for place, word in enumerate(words):
        yield text_ids(f" {word}" if place else word, tokenizer) or [unknown]


def frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The tokens that the model expects before and after a text; none of most decoders."""
    around = list(tokenizer("")["input_ids"])
    middle = 0 if around == [tokenizer.eos_token_id] else -(-len(around) // 2)
    return around[:middle], around[middle:]


def framed(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, most: int) -> list[int]:
    """A text's tokens in their frame, at most so many in all and at least one; its end goes."""
    before, after = frame(tokenizer)
    whole = [*before, *ids[: most - len(before) - len(after)], *after]
    return whole or [tokenizer.eos_token_id or 0]


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Texts that the tokenizer takes for a token with a meaning of its own, and its id.

    An added token that is a plain word or blanks is ordinary text in one token.
    """
    found = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    for number, token in tokenizer.added_tokens_decoder.items():
        if token.special or not re.fullmatch(r"[\w\s]*", token.content):
            found[token.content] = number
    return {text: number for text, number in found.items() if text.strip()}


def _rendered(
    messages: Sequence[Mapping[str, str]], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[str, bool]]:
    """The template's text in parts, each with whether it is a message's own."""
    from jinja2.exceptions import TemplateError

    marked = [
        {**message, "content": _marked(number, message["content"])}
        for number, message in enumerate(messages)
    ]
    try:
        text = tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=True)
    except TemplateError:
        raise InputError(
            "The model's chat template does not take this order of messages.",
            "Some know no system message, or want questions and answers in turn.",
        ) from None
    for index, part in enumerate(_MARK.split(str(text))):
        if index % 2:
            yield messages[int(part)]["content"].strip(), True
        elif part:
            yield part, False


def _marked(number: int, content: str) -> str:
    """A mark in the place of the text, between the blanks around it, which a template may trim."""
    text = content.strip()
    return content.replace(text, f"\ue000{number}\ue001", 1) if text else content


def _cut(text: str, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Pieces that give no control token when each is encoded by itself."""
    finder, controls = _controls(tokenizer, len(tokenizer))
    starts = [match.start() for match in finder.finditer(text)]
    edges = [0, *(start + 1 for start in starts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    if controls.isdisjoint(_encode(pieces, tokenizer)):
        return pieces
    # written another way, which this tokenizer makes the same: capitals, full-width letters
    return [sign for sign in text if controls.isdisjoint(_encode([sign], tokenizer))] or [""]


@lru_cache(maxsize=4)
def _controls(
    tokenizer: PreTrainedTokenizerBase, _size: int
) -> tuple[re.Pattern[str], frozenset[int]]:
    """What finds where a control token's text starts, overlapping ones too, and all their ids."""
    found = control_tokens(tokenizer)
    texts = "|".join(re.escape(text) for text in found)
    return re.compile(f"(?={texts})" if texts else "(?!)"), frozenset(found.values())


def _encode(pieces: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    ids: list[int] = []
    for piece in pieces:
        ids += tokenizer.encode(piece, add_special_tokens=False)
    return ids
