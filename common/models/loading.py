"""A model's frozen weights, and its modules without them.

A decoder comes with its language-model head; an encoder as its layers alone, without head, and
without pooler where its class lets it be left out.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from common.models.hub import from_pretrained
from common.models.kinds import ModelKind, kind_of, load_config
from common.system import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_base(name: str, dtype: str = "float32") -> PreTrainedModel:
    """The frozen base model in evaluation mode, on the CPU."""
    import torch

    loader, options = _class_and_options(name)
    options["dtype"] = getattr(torch, dtype)
    if dtype == "bfloat16":  # PyTorch's fused attention is slow backwards there on CPUs
        options["attn_implementation"] = "eager"
    with quiet.transformers():
        model = from_pretrained(loader, name, **options)
    model.requires_grad_(False)
    return model.eval()  # type: ignore[no-any-return]


@lru_cache(maxsize=2)
def skeleton(name: str) -> PreTrainedModel:
    """The model's modules without its weights, on the meta device."""
    import torch

    config = load_config(name)
    loader, options = _class_and_options(name)
    with torch.device("meta"), quiet.transformers():
        return loader.from_config(config, **options)  # type: ignore[no-any-return]


def _class_and_options(name: str) -> tuple[Any, dict[str, Any]]:
    """What loads a model of this name's kind, and with which options."""
    from transformers import MODEL_MAPPING, AutoModel, AutoModelForCausalLM

    if kind_of(name) is ModelKind.DECODER:
        return AutoModelForCausalLM, {}
    made = MODEL_MAPPING[type(load_config(name))]
    takes = inspect.signature(made).parameters if inspect.isclass(made) else ()
    return AutoModel, {"add_pooling_layer": False} if "add_pooling_layer" in takes else {}
