"""Adapters as llama.cpp loads them: a GGUF file with `lora_a` and `lora_b` for each weight.

llama.cpp's rotary embedding pairs neighbouring rows, transformers' pairs the two halves of a head,
so converted Llama weights have the rows of q and k reordered. An adapter must be reordered the
same way: only B has output rows. Format: ggml's docs/gguf.md, version 3.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

from common.adapter.plan import BOTH, AdapterPlan, Site, Vector
from common.errors import InputError

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32  # bytes, GGUF's default
TYPE_FLOAT32, TYPE_STRING = 6, 8  # of a metadata value
TENSOR_F32 = 0

WEIGHTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
REORDERED = ("attn_q", "attn_k")
SITE = re.compile(r"model\.layers\.(\d+)\.(\w+\.\w+)")


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a model's configuration says about its GGUF form."""

    name: str  # llama.cpp's
    reorders: bool  # whether rows of q and k are reordered
    heads: int
    key_value_heads: int


# Transformers' model type → llama.cpp's architecture, and whether its conversion reorders q and k.
KNOWN = {"llama": ("llama", True), "mistral": ("llama", True), "qwen2": ("qwen2", False)}


def architecture(config: Any) -> Architecture:
    """The GGUF architecture of a transformers configuration.

    Raises:
        InputError: For a model type whose conversion is not known here.
    """
    kind = config.model_type
    if kind not in KNOWN:
        raise InputError(
            f"Adapters of {kind!r} models cannot be written as GGUF; known: {', '.join(KNOWN)}.",
            "The assistant answers through PyTorch instead.",
        )
    heads = config.num_attention_heads
    return Architecture(*KNOWN[kind], heads, getattr(config, "num_key_value_heads", None) or heads)


def encode_lora(plan: AdapterPlan, vector: Vector, target: Architecture) -> bytes:
    """The bytes of a GGUF adapter file; the same input gives the same bytes.

    Args:
        vector: A and B of every site, flattened in the plan's order, float32.

    Raises:
        InputError: When a module has no counterpart in llama.cpp.
    """
    assert vector.shape == (plan.size(BOTH),)
    metadata: list[tuple[str, str | float]] = [
        ("general.type", "adapter"),
        ("general.architecture", target.name),
        ("adapter.type", "lora"),
        ("adapter.lora.alpha", plan.alpha),  # llama.cpp scales B·A·x by alpha/r, as PEFT does
    ]
    tensors = [
        (f"{weight_name(site)}.lora_{part.lower()}", _rows(plan, site, part, vector[place], target))
        for site, part, place in plan.entries(BOTH)
    ]
    header = MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(metadata))
    header += b"".join(_entry(key, value) for key, value in metadata)
    infos, data = b"", b""
    for name, tensor in tensors:
        rows, columns = tensor.shape  # GGUF names the fastest dimension first
        infos += _string(name) + struct.pack("<IQQIQ", 2, columns, rows, TENSOR_F32, len(data))
        data += _padded(tensor.astype("<f4").tobytes())
    return _padded(header + infos) + data


def weight_name(site: Site) -> str:
    """llama.cpp's name of an adapted weight.

    Raises:
        InputError: When it has none that an adapter may stand on.
    """
    match = SITE.fullmatch(site.module)
    if match is None or match[2] not in WEIGHTS:
        raise InputError(
            f"An adapter on {site.module} cannot be written as GGUF.",
            f"llama.cpp can adapt {', '.join(name.split('.')[1] for name in WEIGHTS)}.",
        )
    return f"blk.{match[1]}.{WEIGHTS[match[2]]}.weight"


def _rows(plan: AdapterPlan, site: Site, part: str, values: Vector, target: Architecture) -> Vector:
    tensor = values.reshape(plan.shape(site, part))
    kind = weight_name(site).split(".")[2]
    if part == "A" or kind not in REORDERED or not target.reorders:
        return tensor
    heads = target.heads if kind == "attn_q" else target.key_value_heads
    return interleaved(tensor, heads)


def interleaved(rows: Vector, heads: int) -> Vector:
    """Rows of q or k, [heads · 2 · half, r]: from the halves of each head to neighbouring pairs."""
    half = len(rows) // heads // 2
    return rows.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(rows.shape)


def _entry(key: str, value: str | float) -> bytes:
    if isinstance(value, str):
        return _string(key) + struct.pack("<I", TYPE_STRING) + _string(value)
    return _string(key) + struct.pack("<If", TYPE_FLOAT32, value)


def _string(text: str) -> bytes:
    content = text.encode()
    return struct.pack("<Q", len(content)) + content


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % ALIGNMENT)
