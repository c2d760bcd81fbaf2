"""Gradient canaries: made-up examples whose gradient is one coordinate of the shared adapter.

A canary's loss is linear in the adapter's weights, so its gradient is the same in every step. It
goes through the real linear layers: Opacus' hooks see it like any other example. Each canary has a
coordinate to itself (Nasr et al. 2023, section 4, call it a Dirac canary), so canaries do not hide
one another, and an inner product of the update with its direction is a coordinate of the update.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.adapter import lora
from common.learning.backbone import Backbone, Batch, Prepared
from common.settings import Settings
from common.tasks import task_of
from common.tasks.task import Encoded, Example
from simulations.evidence.audit.marked import Marked

CANARY_BATCH = 256
CANARY = "\0canary"
MODULES = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"


@dataclass(frozen=True, slots=True)
class Canary(Prepared):
    """An example that only says which coordinate of the sent vector its gradient is."""

    coordinate: int = 0


@dataclass(frozen=True, slots=True)
class CanaryBatch(Batch):
    """Canaries of one micro-batch: coordinates [batch]."""

    coordinates: Tensor


class CanaryBackbone(Backbone):
    """A backbone that takes canaries among its examples.

    Args:
        strength: L2 norm of a canary's gradient before it is clipped.
    """

    def __init__(self, settings: Settings, strength: float) -> None:
        from common.learning.backbone import adapter_plans

        super().__init__(
            task_of(settings.task),
            settings.model.name,
            *adapter_plans(settings),
            settings.model.dtype,
        )
        self.strength = strength

    def encode(self, example: Example) -> Encoded:
        """A canary has no tokens."""
        return Encoded((), ()) if isinstance(example, Marked) else super().encode(example)

    def prepared(self, examples: Sequence[Example]) -> list[Prepared]:
        """Real examples as ever, then the canaries that stand for themselves among them."""
        real = [example for example in examples if not isinstance(example, Marked)]
        marked = [example for example in examples if isinstance(example, Marked)]
        return [*super().prepared(real), *map(_canary, marked)]

    def batches(self, examples: Sequence[Prepared]) -> Iterator[Batch]:
        """Micro-batches of real examples, then of canaries."""
        yield from super().batches([e for e in examples if not isinstance(e, Canary)])
        coordinates = [e.coordinate for e in examples if isinstance(e, Canary)]
        for start in range(0, len(coordinates), CANARY_BATCH):
            chosen = torch.tensor(coordinates[start : start + CANARY_BATCH])
            none = torch.empty(0)
            yield CanaryBatch(none, none, 0, none, chosen)

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The product's losses; a canary's is strength × its weight, over one prediction."""
        if not isinstance(batch, CanaryBatch):
            return super().losses(batch)
        size = len(batch.coordinates)
        return self._linear(batch.coordinates), torch.ones(size)

    def _linear(self, coordinates: Tensor) -> Tensor:
        """⟨strength · e_c, B⟩ for each coordinate c, through every layer's own forward pass."""
        plan, size = self.shared, len(coordinates)
        loss = torch.zeros(size)
        one_hot = torch.zeros(size, plan.dimension)
        one_hot[torch.arange(size), coordinates] = self.strength
        for site, part, place in plan.entries(plan.sent):
            layer = lora.weight(self.model, lora.SHARED, site, part)
            rows, columns = plan.shape(site, part)
            wanted = one_hot[:, place].view(size, rows, columns)
            identity = torch.eye(columns).expand(size, columns, columns)
            loss = loss + (layer(identity).transpose(1, 2) * wanted).sum(dim=(1, 2))
        return loss


def canary(coordinate: int) -> Example:
    """The canary of one coordinate, as a device has it among its examples."""
    return Marked(CANARY, str(coordinate))


def _canary(one: Marked) -> Canary:
    return Canary(torch.empty(0), torch.empty(0, dtype=torch.long), int(one.name))
