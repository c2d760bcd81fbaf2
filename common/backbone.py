"""The frozen base with both adapters, and everything the frozen part makes cacheable.

Below the lowest adapted layer nothing ever changes, so the hidden states that enter that layer
are computed once an example and kept. Logits are computed only where there is a label. Whether a
model allows the short cut is measured when it is loaded: both paths must give the same loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from common.adapter import lora
from common.adapter.plan import BOTH, AdapterPlan, Vector
from common.config import Settings
from common.models import chosen_device, load_base, load_tokenizer, skeleton
from common.tasks import TASKS
from common.tasks.task import NOTHING, Encoded, Example, Score, Task

MICRO_BATCH = 16
MEMORY_BYTES = 1_000_000_000  # of kept hidden states
SHORTCUT_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}  # nats, short against plain path
ALPHA_PER_RANK = 1  # A has unit rows, so that B's gradient has the scale of the module's output


@dataclass(frozen=True, slots=True)
class Prepared:
    """One example ready for the upper layers.

    `entry` is [length, width] hidden states, or [length] token ids without the short cut;
    `labels` is [length], `NOTHING` where there is none.
    """

    entry: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded examples: entry [batch, length(, width)], labels [batch, length].

    `tokens` counts those of the examples, without padding.
    """

    entry: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    tokens: int


class Backbone:
    """A base model with a shared and a personal adapter attached."""

    def __init__(
        self,
        task: Task,
        name: str,
        shared: AdapterPlan,
        personal: AdapterPlan,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        self.task = task
        self.name = name
        self.shared = shared
        self.personal = personal
        self.device = device
        self.tokenizer = load_tokenizer(name)
        self.model = lora.attach(load_base(name, dtype), shared, personal).to(device)
        self._causal: Any = self.model.get_base_model()
        self._decoder: Any = self._causal.base_model
        self._layers = lora.decoder_layers(self._causal)
        self.first_layer = self._lowest_adapted_layer()
        self._memory: dict[tuple[Example, ...], list[Prepared]] = {}
        self.shortcut = False
        self.shortcut = self._shortcut_agrees()

    def prepare(self, examples: Sequence[Encoded]) -> list[Prepared]:
        """Run the frozen lower layers once for each example."""
        place = self.device
        plain = [
            Prepared(torch.tensor(e.ids, device=place), torch.tensor(e.labels, device=place))
            for e in examples
        ]
        if not self.shortcut or self.first_layer == 0:
            return plain
        prepared: list[Prepared | None] = [None] * len(plain)
        for rows, batch in self._collated(plain):
            hidden = self._lower(batch.entry)
            for row, state in zip(rows, hidden, strict=True):
                example = plain[row]
                prepared[row] = Prepared(state[: len(example.labels)].clone(), example.labels)
        return [example for example in prepared if example is not None]

    def encode(self, example: Example) -> Encoded:
        """The example as this model reads it; raises where its tokenizer cannot."""
        return self.task.encode(example, self.tokenizer)

    def prepared(self, examples: Sequence[Example]) -> list[Prepared]:
        """`prepare`, encoding first, remembered while memory allows."""
        key = tuple(examples)
        if key not in self._memory:
            self._memory[key] = self.prepare([self.encode(example) for example in examples])
            while self._memory_bytes() > MEMORY_BYTES and len(self._memory) > 1:
                self._memory.pop(next(iter(self._memory)))
        return self._memory[key]

    def _memory_bytes(self) -> int:
        return sum(e.entry.nbytes for prepared in self._memory.values() for e in prepared)

    def batches(self, examples: Sequence[Prepared]) -> Iterator[Batch]:
        """Micro-batches of examples of similar length."""
        for _, batch in self._collated(examples):
            yield batch

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Each example's summed loss in nats, and the number of its predictions; both [batch]."""
        rows, columns, wanted = self.task.positions(batch.labels)
        outputs = self._outputs(batch.entry, rows, columns).float()
        return self._by_example(batch, rows, self.task.losses(outputs, wanted))

    def _by_example(self, batch: Batch, rows: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        size = len(batch.labels)
        sums = torch.zeros(size, device=losses.device).index_add(0, rows, losses)
        return sums, torch.bincount(rows, minlength=size).float()

    @contextmanager
    def using(self, shared: Vector | None = None, personal: Vector | None = None) -> Iterator[None]:
        """Forward passes inside see exactly these adapters, whatever was there before.

        Args:
            shared, personal: A and B of every site, flattened; None: the adapter takes no part.
        """
        given = {lora.SHARED: (self.shared, shared), lora.PERSONAL: (self.personal, personal)}
        weights = {name: one for name, one in given.items() if one[1] is not None}
        for name, (plan, vector) in weights.items():
            assert vector is not None
            lora.write(self.model, name, plan, BOTH, vector)
        with lora.active(self.model, *weights):
            yield

    @torch.no_grad()
    def score(self, examples: Sequence[Prepared]) -> Score:
        """Held-out figures under the adapters that are in use (`using`)."""
        total = self.task.nothing()
        for batch in self.batches(examples):
            rows, columns, wanted = self.task.positions(batch.labels)
            outputs = self._outputs(batch.entry, rows, columns).float()
            sums, _ = self._by_example(batch, rows, self.task.losses(outputs, wanted))
            total += self.task.score(float(sums.sum()), outputs, rows, wanted)
        return total

    def _collated(self, examples: Sequence[Prepared]) -> Iterator[tuple[list[int], Batch]]:
        order = sorted(range(len(examples)), key=lambda row: len(examples[row].labels))
        for start in range(0, len(order), MICRO_BATCH):
            rows = order[start : start + MICRO_BATCH]
            pad = nn.utils.rnn.pad_sequence
            entry = pad([examples[row].entry for row in rows], batch_first=True)
            labels = pad([examples[row].labels for row in rows], True, NOTHING)
            yield rows, Batch(entry, labels, sum(len(examples[row].labels) for row in rows))

    @torch.no_grad()
    def _lower(self, ids: Tensor) -> Tensor:
        with lora.active(self.model), self._only(slice(0, self.first_layer), norm=False):
            hidden: Tensor = self._decoder(input_ids=ids, use_cache=False).last_hidden_state
        return hidden

    def _outputs(self, entry: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """What the head gives at the given positions, [positions, vocabulary]."""
        if not self.shortcut:
            every: Tensor = self._causal(input_ids=entry, use_cache=False).logits
            return every[rows, columns]
        chosen: Tensor = self._causal.get_output_embeddings()(self._upper(entry)[rows, columns])
        return chosen

    def _upper(self, entry: Tensor) -> Tensor:
        if entry.is_floating_point():
            with self._only(slice(self.first_layer, None), norm=True):
                hidden: Tensor = self._decoder(inputs_embeds=entry, use_cache=False)[0]
            return hidden
        plain: Tensor = self._decoder(input_ids=entry, use_cache=False)[0]
        return plain

    @contextmanager
    def _only(self, layers: slice, *, norm: bool) -> Iterator[None]:
        """The decoder with some of its layers and, on request, without its final norm."""
        final = self._decoder.norm
        self._decoder.layers = self._layers[layers]
        if not norm:
            self._decoder.norm = nn.Identity()
        try:
            yield
        finally:
            self._decoder.layers, self._decoder.norm = self._layers, final

    def _lowest_adapted_layer(self) -> int:
        modules = [site.module for plan in (self.shared, self.personal) for site in plan.sites]
        names = {id(block): name for name, block in self._causal.named_modules()}
        for index, block in enumerate(self._layers):
            if any(module.startswith(f"{names[id(block)]}.") for module in modules):
                return index
        return 0

    def _shortcut_agrees(self) -> bool:
        """Compare both paths on a probe; a model built another way keeps the plain path."""
        if getattr(self._decoder, "layers", None) is not self._layers:
            return False
        if not hasattr(self._decoder, "norm"):
            return False
        # the decoder numbers the layers that it is left with, and would give them others' windows
        if len(set(getattr(self._decoder.config, "layer_types", None) or ())) > 1:
            return False
        ids = torch.arange(1, 25, device=self.device).unsqueeze(0) % self._causal.config.vocab_size
        with torch.no_grad(), lora.active(self.model):
            truth = self._causal(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)
            hidden = self._upper(self._lower(ids)) if self.first_layer else self._upper(ids)
            short = self._causal.get_output_embeddings()(hidden).float().log_softmax(-1)
        tolerance = SHORTCUT_TOLERANCE[str(self._causal.dtype).removeprefix("torch.")]
        return bool((truth - short).abs().max() < tolerance)


@lru_cache(maxsize=1)
def _backbone(
    task: str, name: str, shared: AdapterPlan, personal: AdapterPlan, dtype: str, device: str
) -> Backbone:
    return Backbone(TASKS[task], name, shared, personal, dtype, device)


def backbone_for(settings: Settings) -> Backbone:
    """This process's one backbone, loaded on first use."""
    device = chosen_device(settings.device)
    plans = adapter_plans(settings)
    return _backbone(settings.task, settings.model, *plans, settings.dtype, device)


def adapter_plans(settings: Settings) -> tuple[AdapterPlan, AdapterPlan]:
    """The shared and the personal adapter's plan, from the model's configuration alone."""
    shared = _plan(
        settings.model,
        settings.module_names,
        settings.layers,
        settings.rank,
        settings.seed,
        settings.sharing,
    )
    personal = _plan(
        settings.model,
        settings.personal_module_names,
        settings.layers,
        settings.personal_rank,
        settings.seed,
        "lora",
    )
    return shared, personal


@lru_cache(maxsize=16)
def _plan(
    model: str, modules: tuple[str, ...], layers: int, rank: int, seed: int, sharing: str
) -> AdapterPlan:
    return lora.plan_adapter(
        skeleton(model),
        model=model,
        modules=modules,
        layers=layers,
        rank=rank,
        alpha=float(ALPHA_PER_RANK * rank),
        seed=seed,
        sharing=sharing,
    )
