"""The engine on PyTorch: the model that training uses, token by token with a cache of keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from client.assistant.engine import CONTEXT, FULL, TOP_K, TOP_P, Engine, Loaded, Pieces, Scales
from common.adapter import lora
from common.adapter.plan import BOTH
from common.errors import PrivityError
from common.learning.backbone import Backbone, adapter_plans
from common.models import chosen_device
from common.settings import Settings
from common.tasks import task_of
from common.tasks.task import Encoded

UNFINISHED = "\ufffd"  # what a tokenizer gives for the first bytes of a longer character


class TorchEngine(Engine):
    """See `Engine`. The backbone is its own; training must use another."""

    def __init__(
        self, settings: Settings, adapters: Mapping[str, Loaded], *, reason: str = ""
    ) -> None:
        shared, personal = adapter_plans(settings)
        plans = {lora.SHARED: shared, lora.PERSONAL: personal}
        plans |= {name: adapter.plan for name, adapter in adapters.items()}
        backbone = Backbone(
            task_of(settings.task),
            settings.model.name,
            plans[lora.SHARED],
            plans[lora.PERSONAL],
            settings.model.dtype,
            chosen_device(settings.model.device),
        )
        self._device = backbone.device
        self._model: Any = backbone.model
        for name, adapter in adapters.items():
            lora.write(self._model, name, adapter.plan, BOTH, adapter.vector)
        self._lock = Lock()
        config: Any = backbone.model.get_base_model().config
        context = min(CONTEXT, getattr(config, "max_position_embeddings", CONTEXT))
        because = f", because {reason}" if reason else ""
        description = f"PyTorch on {settings.model.name}{because}".rstrip(".")
        super().__init__(description, backbone.tokenizer, context, tuple(adapters))

    @torch.no_grad()
    def token_log_likelihoods(self, tokens: Encoded, scales: Scales = FULL) -> list[float]:
        """One forward pass over the whole sequence."""
        ids = torch.tensor([tokens.ids], device=self._device)
        labels = torch.tensor(tokens.labels)
        with self._lock, self._scaled(scales):
            logits = self._model(input_ids=ids, use_cache=False).logits[0].float().cpu()
        wanted = torch.nonzero(labels[1:] >= 0).squeeze(1)
        chances = logits[wanted].log_softmax(-1)
        found: list[float] = chances.gather(1, labels[wanted + 1].unsqueeze(1)).squeeze(1).tolist()
        return found

    def _generate(
        self, ids: list[int], max_tokens: int, temperature: float, seed: int, scales: Scales
    ) -> Pieces:
        generator = torch.Generator().manual_seed(seed)
        with self._lock, self._scaled(scales):
            written: list[int] = []
            text = shown = ""
            for token in self._tokens(ids, max_tokens, temperature, generator):
                written.append(token)
                text = str(self.tokenizer.decode(written, skip_special_tokens=True))
                if not text.endswith(UNFINISHED) and len(text) > len(shown):
                    yield text[len(shown) :]
                    shown = text
            if len(text) > len(shown):
                yield text[len(shown) :]

    def _tokens(
        self, ids: list[int], max_tokens: int, temperature: float, generator: torch.Generator
    ) -> Iterator[int]:
        entry, cache = torch.tensor([ids], device=self._device), None
        for _ in range(max_tokens):
            with torch.no_grad():
                step = self._model(input_ids=entry, past_key_values=cache, use_cache=True)
            cache = step.past_key_values
            token = pick(step.logits[0, -1].float().cpu(), temperature, generator)
            if token == self.tokenizer.eos_token_id:
                return
            yield token
            entry = torch.tensor([[token]], device=self._device)

    @contextmanager
    def _scaled(self, scales: Scales) -> Iterator[None]:
        """Only the adapters with a scale take part inside, by that much."""
        if self._model is None:
            raise PrivityError("This engine is closed.")
        factors = {name: getattr(scales, name) for name in self.adapters}
        names = [name for name, factor in factors.items() if factor]
        layers = [module for module in self._model.modules() if hasattr(module, "lora_A")]
        before = [dict(layer.scaling) for layer in layers]
        for layer in layers:
            layer.scaling.update(
                {n: layer.scaling[n] * factors[n] for n in names if n in layer.scaling}
            )
        try:
            with lora.active(self._model, *names):
                yield
        finally:
            for layer, scaling in zip(layers, before, strict=True):
                layer.scaling.update(scaling)

    def close(self) -> None:
        """The model goes when nothing refers to it."""
        self._model = None


def pick(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    """The likeliest token, or one drawn from the top as llama.cpp does. logits: [vocabulary]."""
    if temperature == 0:
        return int(logits.argmax())
    best, ids = logits.topk(min(TOP_K, len(logits)))
    chances = best.softmax(-1)
    inside = chances.cumsum(-1) - chances < TOP_P  # the one that crosses the border stays
    kept = best[inside] / temperature
    drawn = torch.multinomial(kept.softmax(-1), 1, generator=generator)
    return int(ids[inside][drawn])
