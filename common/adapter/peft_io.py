"""Adapters as PEFT writes them: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft import PeftModel


def save_adapter(model: PeftModel, adapter: str, folder: Path) -> None:
    """Write one of the model's adapters so that plain PEFT, vLLM or llama.cpp can load it."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(model, adapter_name=adapter, save_embedding_layers=False)
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    model.peft_config[adapter].save_pretrained(str(folder))
