"""Adapters as PEFT writes them: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from common.adapter.plan import BOTH, AdapterPlan, Vector

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


def save_vector(plan: AdapterPlan, vector: Vector, folder: Path) -> None:
    """Write the same files from a plan and the A and B of every site, without the model.

    Args:
        vector: A and B, flattened in the plan's order, float32 (`state.whole` of a shared one).
    """
    from safetensors.numpy import save_file

    from common.adapter.lora import lora_config

    assert vector.shape == (plan.size(BOTH),)
    tensors = {
        f"base_model.model.{site.module}.lora_{part}.weight": vector[place].reshape(
            plan.shape(site, part)
        )
        for site, part, place in plan.entries(BOTH)
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    lora_config(plan).save_pretrained(str(folder))
