"""Llama's names of linear modules, and what other families call the same ones.

So `q_proj,v_proj` can be the default for GPT-2 and BERT too. Where one matrix gives query, key and
value together, it is the counterpart of each of them.
"""

from __future__ import annotations

from collections.abc import Collection

_TOGETHER = ("c_attn", "query_key_value", "qkv_proj", "Wqkv", "self.in_proj")

# Endings of a module's path within its layer; the first that a model has counts.
COUNTERPARTS = {
    "q_proj": ("query", "q_lin", "query_proj", *_TOGETHER, "attn.q"),
    "k_proj": ("key", "k_lin", "key_proj", *_TOGETHER, "attn.k"),
    "v_proj": ("value", "v_lin", "value_proj", *_TOGETHER, "attn.v"),
    "o_proj": (
        "attention.output.dense", "out_proj", "out_lin", "attn.c_proj", "attention.dense",
        "self_attention.dense", "self_attn.dense", "attn.Wo", "attn.o",
    ),
    "gate_proj": ("gate_up_proj", "mlp.Wi"),
    "up_proj": (
        "intermediate.dense", "gate_up_proj", "lin1", "mlp.c_fc", "dense_h_to_4h", "fc1", "fc_in",
        "ffn", "mlp.Wi",
    ),
    "down_proj": (
        "output.dense", "lin2", "mlp.c_proj", "dense_4h_to_h", "fc2", "fc_out", "ffn_output",
        "mlp.Wo",
    ),
}  # fmt: skip


def paths_of(name: str, paths: Collection[str]) -> set[str]:
    """Those of a layer's module paths that a name stands for; empty where it stands for none.

    A name that the model itself has always means its own modules.
    """
    if own := {path for path in paths if path.rsplit(".", 1)[-1] == name}:
        return own
    for other in COUNTERPARTS.get(name, ()):
        if other in paths:  # whole: BERT's `output.dense` is not its `attention.output.dense`
            return {other}
        if found := {path for path in paths if path.endswith(f".{other}")}:
            return found
    return set()
