"""A float32 GGUF of a small Llama or Qwen 2 model, written with the gguf package: an oracle's base.

With it llama.cpp and PyTorch compute the same model in the same precision, so that what is left
of a difference is the adapter's conversion.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_base(model: Any, tokenizer: Any, file: Path) -> None:
    """The model as llama.cpp's own converter would write it, in float32."""
    config, architecture = model.config, model.config.model_type
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    _vocabulary(writer, tokenizer, config.vocab_size)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":  # tied
            writer.add_tensor(_name(name), _rows(name, tensor.numpy(), config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _name(name: str) -> str:
    top = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
    }
    if name in top:
        return top[name]
    _, _, layer, rest = name.split(".", 3)
    module, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{NAMES[module]}.{kind}"


def _rows(name: str, tensor: Any, config: Any) -> Any:
    """Llama's rows of q and k as pairs, row by row."""
    if config.model_type != "llama" or not any(kind in name for kind in ("q_proj", "k_proj")):
        return tensor
    size = config.hidden_size // config.num_attention_heads
    order = [
        start + half * size // 2 + pair
        for start in range(0, len(tensor), size)
        for pair in range(size // 2)
        for half in range(2)
    ]
    return np.ascontiguousarray(tensor[order])


def _vocabulary(writer: gguf.GGUFWriter, tokenizer: Any, size: int) -> None:
    texts = [tokenizer.convert_ids_to_tokens(number) or f"[{number}]" for number in range(size)]
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    special = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts)
    writer.add_token_types([control if text in special else normal for text in texts])
    writer.add_token_merges(["[0] [0]"])  # llama.cpp wants at least one; this one never applies
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(False)
