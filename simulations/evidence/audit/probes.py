"""Probes: made-up examples with any gradient and any gain, through the product's own code.

In training a probe's loss is linear in the adapter, so its gradient is one fixed vector over all
trained parts of all layers: dense, in one layer, in one coordinate, zero, or not finite. In an
evaluation it gains what it says. Both change where the personal adapter takes part, so that a way
from there into what leaves the device shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.adapter import lora
from common.adapter.plan import BOTH, TRAINED_PARTS
from common.learning.backbone import MICRO_BATCH, Backbone, Batch, Prepared, adapter_plans
from common.settings import Settings
from common.tasks import task_of
from common.tasks.task import Encoded, Example
from simulations.evidence.audit.marked import Marked

PROBE = "\0probe"
BASE_LOSS = 64.0  # nats, of a probe under the base model


@dataclass(frozen=True, slots=True)
class Probe:
    """A gradient over the trained parts ([dimension]) and a gain in nats."""

    gradient: NDArray[np.float32]
    gain: float = 0.0


@dataclass(frozen=True, slots=True)
class _Prepared(Prepared):
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Batch(Batch):
    names: tuple[str, ...]


class ProbeBackbone(Backbone):
    """The product's backbone, which takes probes among its examples."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            task_of(settings.task),
            settings.model.name,
            *adapter_plans(settings),
            settings.model.dtype,
        )
        self.parts = TRAINED_PARTS[settings.adapter.sharing]
        self.size = self.shared.size(self.parts)
        self.probes: dict[str, Probe] = {}

    def probe(self, name: str, gradient: NDArray[np.floating[Any]], gain: float = 0.0) -> Example:
        """A new probe, as a device has it among its examples."""
        self.probes[name] = Probe(gradient.astype(np.float32), gain)
        return Marked(PROBE, name)

    def encode(self, example: Example) -> Encoded:
        """A probe has no tokens."""
        return Encoded((), ()) if isinstance(example, Marked) else super().encode(example)

    def prepared(self, examples: Sequence[Example]) -> list[Prepared]:
        """Real examples as ever, then the probes."""
        real = [example for example in examples if not isinstance(example, Marked)]
        none = torch.empty(0), torch.empty(0, dtype=torch.long)
        made = [_Prepared(*none, one.name) for one in examples if isinstance(one, Marked)]
        return [*super().prepared(real), *made]

    def batches(self, examples: Sequence[Prepared]) -> Iterator[Batch]:
        """Micro-batches of real examples, then of probes."""
        yield from super().batches([e for e in examples if not isinstance(e, _Prepared)])
        names = [e.name for e in examples if isinstance(e, _Prepared)]
        for start in range(0, len(names), MICRO_BATCH):
            chosen = tuple(names[start : start + MICRO_BATCH])
            none = torch.empty(0)
            yield _Batch(none, none, 0, none, chosen)

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The product's losses; a probe's is over one prediction."""
        if not isinstance(batch, _Batch):
            return super().losses(batch)
        size = len(batch.names)
        probes = [self.probes[name] for name in batch.names]
        loss = torch.full((size,), BASE_LOSS)
        active = self._active()
        if lora.SHARED in active:
            loss = loss - torch.tensor([probe.gain for probe in probes])
        if lora.PERSONAL in active:
            loss = loss - self._personal()
        if torch.is_grad_enabled():
            vectors = np.stack([probe.gradient for probe in probes])
            turned = round(self._personal() * 97) if lora.PERSONAL in active else 0
            loss = loss + self._linear(torch.from_numpy(np.roll(vectors, turned, axis=1)))
        return loss, torch.ones(size)

    def set_personal(self, chance: np.random.Generator) -> None:
        """Pretend that another personal adapter had been fitted."""
        plan = self.personal
        weights = chance.normal(0, 0.1, plan.size(BOTH)).astype(np.float32)
        lora.write(self.model, lora.PERSONAL, plan, BOTH, weights)

    def _active(self) -> set[str]:
        layer: Any = self.model.get_submodule(f"base_model.model.{self.shared.sites[0].module}")
        return set() if layer.disable_adapters else set(layer.active_adapters)

    def _personal(self) -> float:
        """A number in [0, 1) that every other personal adapter changes."""
        weights = lora.read(self.model, lora.PERSONAL, self.personal, BOTH)
        return float(np.linalg.norm(weights.astype(np.float64)) * 1e3) % 1.0

    def _linear(self, vectors: Tensor) -> Tensor:
        """⟨vector, weights⟩ of each probe, through every layer's own forward pass: [probes]."""
        size, total = len(vectors), torch.zeros(len(vectors))
        for site, part, place in self.shared.entries(self.parts):
            layer = lora.weight(self.model, lora.SHARED, site, part)
            rows, columns = self.shared.shape(site, part)
            wanted = vectors[:, place].view(size, rows, columns)
            identity = torch.eye(columns).expand(size, columns, columns)
            total = total + (layer(identity).transpose(1, 2) * wanted).sum(dim=(1, 2))
        return total
