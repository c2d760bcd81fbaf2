"""Both LoRA adapters on one frozen base, through PEFT, and their weights in and out as vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from common.adapter.counterparts import paths_of
from common.adapter.plan import TRAINED_PARTS, AdapterPlan, HeadSite, Site, Vector
from common.errors import InputError
from common.system.quiet import no_warnings

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

SHARED = "shared"
PERSONAL = "personal"
HEAD = "label_head"  # the module that gives a figure for each label


def plan_adapter(
    skeleton: nn.Module,
    *,
    model: str,
    modules: Sequence[str],
    layers: int,
    rank: int,
    alpha: float,
    seed: int,
    sharing: str,
    head: HeadSite | None = None,
) -> AdapterPlan:
    """Plan an adapter on the named linear modules of the top `layers` layers.

    Args:
        skeleton: The model, possibly on the meta device.
        modules: Last names of modules, or those of their counterparts in Llama; may be none where
            there is a head, which then learns alone.
        layers: How many of the upper layers carry it; 0 means all.
        head: The head that it carries too, last of the sites.

    Raises:
        InputError: When the model has no linear module of one of these names, and no counterpart.
    """
    blocks = decoder_layers(skeleton)
    first = max(0, len(blocks) - layers) if layers else 0
    names = {id(module): name for name, module in skeleton.named_modules()}
    paths = {p for block in blocks for p, module in block.named_modules() if _is_linear(module)}
    meant = {name: paths_of(name, paths) for name in modules}
    chosen = set[str]().union(*meant.values())
    sites = [
        Site(names[id(module)], *_dimensions(module))
        for block in blocks[first:]
        for path, module in block.named_modules()
        if path in chosen and _is_linear(module)
    ]
    have = {_last(path) for path in paths}
    if unknown := [name for name in modules if not meant[name]]:
        raise InputError(
            f"The model {model!r} has no linear modules named {', '.join(unknown)}.",
            f"Choose for --modules and --personal-modules from: {', '.join(sorted(have))}.",
        )
    if not sites and (modules or head is None):
        raise InputError(
            f"The layers of {model!r} that carry the adapters have none of {', '.join(modules)}."
            if modules
            else "No module is named that could carry an adapter.",
            f"Choose for --modules and --personal-modules from: {', '.join(sorted(have))}.",
        )
    heads = () if head is None else (head,)
    return AdapterPlan(model, (*sites, *heads), rank, alpha, seed, sharing)


def head_site(skeleton: PreTrainedModel, classes: int, rank: int) -> HeadSite:
    """A head for so many labels on this model's hidden states, and a constant beside them.

    Args:
        rank: 0: as wide as its input.
    """
    wide = int(skeleton.config.get_text_config().hidden_size) + 1
    return HeadSite(HEAD, wide, classes, min(rank, wide) or wide)


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The list of decoder blocks: the longest `ModuleList` of the model."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise InputError("This model has no list of decoder layers.", "Choose another --model.")
    return max(lists, key=len)


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _is_linear(module: nn.Module) -> bool:
    """A linear layer, or GPT-2's Conv1D."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.dim() == 2


def _dimensions(module: nn.Module) -> tuple[int, int]:
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    weight = module.weight  # GPT-2's Conv1D keeps [d_in, d_out]
    assert isinstance(weight, torch.Tensor)
    return weight.shape[0], weight.shape[1]


def lora_config(plan: AdapterPlan) -> LoraConfig:
    """The PEFT configuration of a plan."""
    from peft import LoraConfig

    ranks = {} if (head := plan.head) is None else {head.module: head.rank}
    return LoraConfig(
        task_type="FEATURE_EXTRACTION" if ranks else "CAUSAL_LM",
        base_model_name_or_path=plan.model,
        r=plan.rank,
        rank_pattern=ranks,
        lora_alpha=plan.alpha,
        alpha_pattern={module: rank * plan.scaling for module, rank in ranks.items()},
        lora_dropout=0.0,
        target_modules=[site.module for site in plan.sites],
        init_lora_weights=False,
    )


def attach(base: PreTrainedModel, shared: AdapterPlan, personal: AdapterPlan) -> PeftModel:
    """Put both adapters on the base, at their published start, nothing trainable, none active."""
    from peft import get_peft_model

    if (head := shared.head) is not None:
        base.add_module(HEAD, nn.Linear(head.d_in, head.d_out, bias=False))
        nn.init.zeros_(base.get_submodule(HEAD).weight)  # type: ignore[arg-type]
    with no_warnings():  # PEFT renames the base after its folder; undone below
        model = get_peft_model(base, lora_config(shared), adapter_name=SHARED)
        model.add_adapter(PERSONAL, lora_config(personal))
    for config in model.peft_config.values():
        config.base_model_name_or_path = shared.model
    for name, plan in ((SHARED, shared), (PERSONAL, personal)):
        write(model, name, plan, ("A", "B"), plan.initial(("A", "B")))
    model.requires_grad_(False)
    return model.eval()


def weight(model: nn.Module, adapter: str, site: Site, part: str) -> nn.Linear:
    """The linear layer that holds A or B of one site."""
    layer: Any = model.get_submodule(f"base_model.model.{site.module}")
    chosen: nn.Linear = layer.lora_A[adapter] if part == "A" else layer.lora_B[adapter]
    return chosen


def read(model: nn.Module, adapter: str, plan: AdapterPlan, parts: tuple[str, ...]) -> Vector:
    """The adapter's weights, flattened in the plan's order."""
    vector = np.empty(plan.size(parts), dtype=np.float32)
    for site, part, place in plan.entries(parts):
        tensor = weight(model, adapter, site, part).weight
        vector[place] = tensor.detach().cpu().numpy().ravel()
    return vector


@torch.no_grad()
def write(
    model: nn.Module, adapter: str, plan: AdapterPlan, parts: tuple[str, ...], vector: Vector
) -> None:
    """Inverse of `read`."""
    for site, part, place in plan.entries(parts):
        tensor = torch.tensor(vector[place].reshape(plan.shape(site, part)))
        weight(model, adapter, site, part).weight.copy_(tensor)


@contextmanager
def active(model: PeftModel, *adapters: str) -> Iterator[None]:
    """Only the named adapters (none: the plain base) take part in forward passes inside."""
    tuner: Any = model.base_model
    if not adapters:
        with model.disable_adapter():
            yield
        return
    tuner.set_adapter(list(adapters))
    model.requires_grad_(False)  # set_adapter makes what it activates trainable
    yield


@contextmanager
def trainable(
    model: nn.Module, adapter: str, plan: AdapterPlan, parts: tuple[str, ...] | None = None
) -> Iterator[nn.ModuleList]:
    """The linear layers of the trained parts, in training mode and requiring gradients inside."""
    chosen = parts or TRAINED_PARTS[plan.sharing]
    layers = nn.ModuleList(weight(model, adapter, s, p) for s, p, _ in plan.entries(chosen))
    layers.requires_grad_(True).train()
    try:
        yield layers
    finally:
        layers.requires_grad_(False).eval()
        for parameter in layers.parameters():
            parameter.grad = None
