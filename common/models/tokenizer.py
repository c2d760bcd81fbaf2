"""The tokenizer of a model, checked: it must be able to do what the model's kind needs of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import InputError
from common.models.chatml import CHATML
from common.models.hub import from_pretrained
from common.models.kinds import ModelKind, kind_of, load_config
from common.models.tokens import control_tokens, prompt_ids
from common.system import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model. A decoder's has a chat template, its own or ChatML.

    Raises:
        InputError: When a decoder's cannot end an answer, when an encoder's does not mark where a
            text begins or a gap, or when it numbers tokens that the model does not have.
    """
    from transformers import AutoTokenizer

    with quiet.transformers():
        tokenizer: PreTrainedTokenizerBase = from_pretrained(AutoTokenizer, name)
    if kind_of(name) is ModelKind.DECODER:
        _prepare_for_chat(name, tokenizer)
        used = {*prompt_ids([{"role": "user", "content": "a"}], tokenizer), tokenizer.eos_token_id}
    else:
        _require_marks(name, tokenizer)
        used = set(tokenizer.encode("a"))
    _check_ids(name, tokenizer, used)
    return tokenizer


def _prepare_for_chat(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    if tokenizer.chat_template is None:
        tokenizer.chat_template = CHATML
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"The tokenizer of {name!r} has no end token, so no answer could ever end.",
            "Set eos_token in the model's tokenizer_config.json.",
        )


def _require_marks(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    wanted = {"cls_token": tokenizer.cls_token_id, "mask_token": tokenizer.mask_token_id}
    if missing := [token for token, number in wanted.items() if number is None]:
        raise InputError(
            f"The tokenizer of {name!r} has no {' and no '.join(missing)}, which a model of the"
            " BERT kind needs.",
            "Give --model a folder whose tokenizer belongs to its weights.",
        )


def _check_ids(name: str, tokenizer: PreTrainedTokenizerBase, used: set[int]) -> None:
    """Refuse a tokenizer that belongs to another model.

    Control tokens that are not put around a text (`used`) never reach the model
    (`common/models/tokens.py`), so one of them may lie beyond it: many tokenizers have such
    padding.
    """
    tokens = getattr(load_config(name).get_text_config(), "vocab_size", None)
    controls = control_tokens(tokenizer)
    ids = {number for text, number in tokenizer.get_vocab().items() if text not in controls} | used
    if tokens is not None and max(ids) >= tokens:
        raise InputError(
            f"The tokenizer of {name!r} gives token {max(ids)}, but the model has {tokens} tokens.",
            "Give --model a folder whose tokenizer belongs to its weights.",
        )
