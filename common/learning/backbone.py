"""The frozen base with both adapters, and everything the frozen part makes cacheable.

The hidden states that enter the lowest adapted layer are computed once an example and kept
(`body.py`). Logits are computed only where there is a label. Whether a model allows the short cut
is measured when it is loaded: both paths must give the same.
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
from common.errors import InputError
from common.learning.body import Body, DecoderBody, EncoderBody
from common.models import (
    chosen_device,
    load_base,
    load_tokenizer,
    require_speaking,
    skeleton,
)
from common.settings import Settings
from common.tasks import task_of
from common.tasks.task import NOTHING, Encoded, Example, Head, Score, Task

MICRO_BATCH = 16
MEMORY_BYTES = 1_000_000_000  # of kept hidden states
MOST_ENCODED = 20_000  # examples whose tokens are kept; a few kB each
SHORTCUT_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}  # nats, short against plain path
ALPHA_PER_RANK = 1  # A has unit rows, so that B's gradient has the scale of the module's output


@dataclass(frozen=True, slots=True)
class Prepared:
    """One example ready for the upper layers.

    `entry` is [length, width] hidden states, or [length] token ids without the short cut;
    `labels` is what the task made of them (`Encoded`).
    """

    entry: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded examples: entry [batch, length(, width)], labels [batch, …].

    `tokens` counts those of the examples, without padding; `lengths` is each one's, [batch].
    """

    entry: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    tokens: int
    lengths: Tensor = field(repr=False)

    @property
    def mask(self) -> Tensor:
        """True where an example has a token, [batch, length]."""
        return torch.arange(
            self.entry.shape[1], device=self.lengths.device
        ) < self.lengths.unsqueeze(1)


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
        self._whole: Any = self.model.get_base_model()
        self._layers = lora.decoder_layers(self._whole)
        self.first_layer = self._lowest_adapted_layer()
        self._body = self._built()
        self._require_apart()
        self._memory: dict[tuple[Example, ...], list[Prepared]] = {}
        self._encoded: dict[Example, Encoded] = {}
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
            hidden = self._lower(batch)
            for row, state in zip(rows, hidden, strict=True):
                example = plain[row]
                prepared[row] = Prepared(state[: len(example.entry)].clone(), example.labels)
        return [example for example in prepared if example is not None]

    @property
    def width(self) -> int:
        """Of a hidden state, in numbers."""
        return int(self._whole.config.get_text_config().hidden_size)

    def encode(self, example: Example) -> Encoded:
        """The example as this model reads it, remembered; raises where its tokenizer cannot."""
        if example not in self._encoded:
            while len(self._encoded) >= MOST_ENCODED:
                self._encoded.pop(next(iter(self._encoded)))
            self._encoded[example] = self.task.encode(example, self.tokenizer)
        return self._encoded[example]

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
        outputs = self._outputs(batch, rows, columns).float()
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
            outputs = self._outputs(batch, rows, columns).float()
            sums, _ = self._by_example(batch, rows, self.task.losses(outputs, wanted))
            total += self.task.score(float(sums.sum()), outputs, rows, wanted)
        return total

    @torch.no_grad()
    def outputs(self, example: Prepared) -> Tensor:
        """What the head gives for one example under the adapters in use, [predictions, classes]."""
        (batch,) = self.batches([example])
        rows, columns, _ = self.task.positions(batch.labels)
        return self._outputs(batch, rows, columns).float()

    def _collated(self, examples: Sequence[Prepared]) -> Iterator[tuple[list[int], Batch]]:
        order = sorted(range(len(examples)), key=lambda row: len(examples[row].entry))
        for start in range(0, len(order), MICRO_BATCH):
            rows = order[start : start + MICRO_BATCH]
            pad = nn.utils.rnn.pad_sequence
            entry = pad([examples[row].entry for row in rows], batch_first=True)
            labels = pad([examples[row].labels for row in rows], True, NOTHING)
            lengths = [len(examples[row].entry) for row in rows]
            known = torch.tensor(lengths, device=self.device)
            yield rows, Batch(entry, labels, sum(lengths), known)

    def _built(self) -> Body:
        """A model that can speak is a decoder."""
        speaks = self._whole.get_output_embeddings() is not None
        kind = DecoderBody if speaks else EncoderBody
        inner = self._whole.base_model if speaks else self._whole
        return kind(inner, self._layers, self.first_layer)

    @torch.no_grad()
    def _lower(self, batch: Batch) -> Tensor:
        with lora.active(self.model):
            return self._body.lower(batch.entry, batch.mask)

    def _outputs(self, batch: Batch, rows: Tensor, columns: Tensor) -> Tensor:
        """What the head gives at the given positions, [positions, classes]."""
        if self.task.head is not Head.LANGUAGE_MODEL:
            # of all tokens, and chosen then: each example's gradient is told from the others'
            every: Tensor = self._label_head(self._features(batch))
            return every[rows, columns]
        if not self.shortcut:
            logits: Tensor = self._whole(input_ids=batch.entry, use_cache=False).logits
            return logits[rows, columns]
        chosen: Tensor = self._whole.get_output_embeddings()(self._upper(batch)[rows, columns])
        return chosen

    @property
    def _label_head(self) -> nn.Module:
        return self._whole.get_submodule(lora.HEAD)  # type: ignore[no-any-return]

    def _features(self, batch: Batch) -> Tensor:
        """What the label head reads: [batch, length, width + 1], or of one label [batch, 1, …].

        Directions only: each state is scaled to length √width, so that no model's own scale is in
        the gradients; the constant beside it gives a label its bias.
        """
        hidden = self._upper(batch).float()
        if self.task.head is Head.ONE_LABEL:
            kept = batch.mask.unsqueeze(2)
            hidden = (hidden * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True)
        scaled = nn.functional.normalize(hidden, dim=-1) * hidden.shape[-1] ** 0.5
        return torch.cat([scaled, scaled.new_ones(*scaled.shape[:-1], 1)], dim=-1)

    def _upper(self, batch: Batch) -> Tensor:
        if batch.entry.is_floating_point():
            return self._body.upper(batch.entry, batch.mask)
        return self._body.whole(batch.entry, batch.mask)

    @torch.no_grad()
    def _require_apart(self) -> None:
        """Refuse a model in which padding changes an example: its gradient would be others' too.

        Raises:
            InputError: What the record-level guarantee says would not hold.
        """
        config = self._whole.config.get_text_config()
        ids = torch.arange(1, 25, device=self.device).unsqueeze(0) % config.vocab_size
        mask = torch.arange(24, device=self.device).unsqueeze(0) < 12
        try:
            with lora.active(self.model):
                alone = self._body.whole(ids[:, :12], mask[:, :12])
                padded = self._body.whole(ids, mask)[:, :12]
            apart = bool((alone.float() - padded.float()).abs().max() < self._tolerance)
        except TypeError:  # it takes no mask
            apart = False
        if not apart:
            raise InputError(
                f"In the model {self.name!r} the length of one text changes the result of another"
                " beside it, so no guarantee about one example could hold.",
                "Name another --model.",
            )

    @property
    def _tolerance(self) -> float:
        return SHORTCUT_TOLERANCE[str(self._whole.dtype).removeprefix("torch.")]

    def _lowest_adapted_layer(self) -> int:
        modules = [site.module for plan in (self.shared, self.personal) for site in plan.sites]
        names = {id(block): name for name, block in self._whole.named_modules()}
        for index, block in enumerate(self._layers):
            if any(module.startswith(f"{names[id(block)]}.") for module in modules):
                return index
        return len(self._layers)

    @torch.no_grad()
    def _shortcut_agrees(self) -> bool:
        """Compare both paths on a probe; a model built another way keeps the plain path."""
        if not self._body.divides:
            return False
        config = self._whole.config.get_text_config()
        ids = torch.arange(1, 25, device=self.device).unsqueeze(0) % config.vocab_size
        known = torch.tensor([ids.numel()], device=self.device)
        probe = Batch(ids, ids, ids.numel(), known)
        with lora.active(self.model):
            truth, words = self._body.whole(ids, probe.mask), self._whole.get_output_embeddings()
            try:
                lower = self._lower(probe) if self.first_layer else ids
                short = self._upper(Batch(lower, ids, probe.tokens, known))
            except Exception:
                return False
            if words is not None:
                truth = self._whole(input_ids=ids, use_cache=False).logits
                truth, short = (one.float().log_softmax(-1) for one in (truth, words(short)))
        return bool((truth.float() - short.float()).abs().max() < self._tolerance)


@lru_cache(maxsize=1)
def _backbone(
    task: Task, name: str, shared: AdapterPlan, personal: AdapterPlan, dtype: str, device: str
) -> Backbone:
    return Backbone(task, name, shared, personal, dtype, device)


def backbone_for(settings: Settings) -> Backbone:
    """This process's one backbone, loaded on first use."""
    device = chosen_device(settings.model.device)
    plans = adapter_plans(settings)
    return _backbone(
        task_of(settings.task), settings.model.name, *plans, settings.model.dtype, device
    )


def adapter_plans(settings: Settings) -> tuple[AdapterPlan, AdapterPlan]:
    """The shared and the personal adapter's plan, from the model's configuration alone.

    Raises:
        InputError: The task's labels are not known.
    """
    task = task_of(settings.task)
    task.require_labels()
    if task.speaks:
        require_speaking(settings.model.name)
    head = (len(task.classes), settings.adapter.head_rank)
    shared = _plan(
        settings.model.name,
        settings.adapter.module_names,
        settings.adapter.layers,
        settings.adapter.rank,
        settings.rounds.seed,
        settings.adapter.sharing,
        *head,
    )
    personal = _plan(
        settings.model.name,
        settings.personal.module_names,
        settings.adapter.layers,
        settings.personal.rank,
        settings.rounds.seed,
        "lora",
        *head,
    )
    return shared, personal


@lru_cache(maxsize=16)
def _plan(
    model: str,
    modules: tuple[str, ...],
    layers: int,
    rank: int,
    seed: int,
    sharing: str,
    classes: int,
    head_rank: int,
) -> AdapterPlan:
    base = skeleton(model)
    return lora.plan_adapter(
        base,
        model=model,
        modules=modules,
        layers=layers,
        rank=rank,
        alpha=float(ALPHA_PER_RANK * rank),
        seed=seed,
        sharing=sharing,
        head=lora.head_site(base, classes, head_rank) if classes else None,
    )
