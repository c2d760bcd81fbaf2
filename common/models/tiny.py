"""Two random models over bytes for tests, `tiny` (Llama) and `tiny-bert`. Always the same.

Each has about nine thousand parameters and a tokenizer that gives one token for each byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.models.chatml import CHATML
from common.models.wheels import cache_dir
from common.system import files, quiet

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

LONGEST_BERT = 128  # tokens


def llama() -> Path:
    """The folder of `tiny`, made on first use."""
    return _once("tiny-1", _llama_tokenizer, _llama)


def bert() -> Path:
    """The folder of `tiny-bert`, made on first use: an encoder that reads 128 tokens at most."""
    return _once("tiny-bert-1", _bert_tokenizer, _bert)


def _once(
    name: str,
    tokenizer: Callable[[], PreTrainedTokenizerFast],
    model: Callable[[int], PreTrainedModel],
) -> Path:
    """The folder of this name in the cache; the model gets the size of the vocabulary."""
    target = cache_dir() / "models" / name
    if not (target / "config.json").exists():
        with files.new_folder(target, mode=files.PRIVATE_FOLDER, first_wins=True) as folder:
            _make(folder, tokenizer(), model)
    return target


def _make(
    folder: Path, tokenizer: PreTrainedTokenizerFast, model: Callable[[int], PreTrainedModel]
) -> None:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = model(len(tokenizer))
    with quiet.transformers():
        made.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def byte_tokenizer(specials: Sequence[str]) -> Tokenizer:
    """One token for each byte, after these special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate([*specials, *alphabet])}
    bytes_ = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    return bytes_


def _llama_tokenizer() -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=byte_tokenizer(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHATML,
    )


def _llama(tokens: int) -> PreTrainedModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=tokens,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def _bert_tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    bytes_ = byte_tokenizer(["[PAD]", "[CLS]", "[SEP]", "[MASK]"])
    bytes_.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bytes_,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=LONGEST_BERT,
    )


def _bert(tokens: int) -> PreTrainedModel:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=tokens,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LONGEST_BERT,
        initializer_range=0.2,
        pad_token_id=0,
    )
    return BertModel(config, add_pooling_layer=False)
