"""How the personal adapter is fitted to a long history: a few ways at first, the best to its end.

Each way is one learning rate. All are tried on some of the person's examples, the better half of
them on more, and so on (successive halving: Jamieson, Talwalkar 2016,
https://arxiv.org/abs/1502.07943). The last one goes on until examples set aside for this stop
getting better. What is held out decides nothing here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from client.learning.training import LossSum
from common.adapter import lora
from common.adapter.plan import BOTH, Vector
from common.learning.backbone import Backbone, Prepared
from common.privacy.dp_sgd import plain_steps
from common.privacy.randomness import Random
from common.settings import PersonalSettings
from common.tasks.task import Example, mean_loss

RATES = (1 / 3, 1.0, 3.0)  # times the setting's own
UNIT = 256  # examples between two looks at the validation examples
PATIENCE = 2  # looks without a better one, after which it ends
MOST_PASSES = 5  # over all examples
VALIDATION_SHARE, MOST_VALIDATION, LEAST_VALIDATION = 0.15, 64, 6
SEED_BYTES = 16
LEAST = 40  # examples; fewer are all learnt from, in the settings' own way


@dataclass(slots=True)
class Fit:
    """One way to fit, as far as it has come. All vectors are float32.

    Attributes:
        rate: The learning rate.
        vector: The adapter, A and B flattened.
        first, second: AdamW's moments, flattened in the layers' order; empty before any step.
        best_vector: The adapter with the lowest validation loss so far.
        steps, seen, tokens: Taken, and examples and tokens learnt from, so far.
        best_seen: Examples that the best adapter had learnt from.
        looks: Validation losses, one for each look, in nats.
    """

    rate: float
    vector: Vector = field(repr=False)
    first: Vector = field(repr=False, default_factory=lambda: np.empty(0, np.float32))
    second: Vector = field(repr=False, default_factory=lambda: np.empty(0, np.float32))
    best_vector: Vector = field(repr=False, default_factory=lambda: np.empty(0, np.float32))
    steps: int = 0
    seen: int = 0
    tokens: int = 0
    best_seen: int = 0
    looks: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The lowest validation loss so far."""
        return min(self.looks, default=math.inf)

    @property
    def spent(self) -> bool:
        """Whether the last looks were no better than one before them."""
        before = self.looks[: len(self.looks) - PATIENCE]
        return bool(before) and min(self.looks[-PATIENCE:]) >= min(before)


@dataclass(slots=True)
class Fitting:
    """The examples of one person, the ways that are still tried, and how to go on with them.

    Args:
        examples, validation: Learnt from, and looked at to decide.
        prepare: Makes examples ready for the backbone.
        shared: The shared adapter that they are fitted on top of, A and B flattened.
        random: Source of the order of the examples, which protects nothing.
        watch: Told the examples learnt from so far, and how many there are at most.
        checkpoint: Told the state after each look, from which `resume` goes on.
    """

    backbone: Backbone
    examples: Sequence[Example] = field(repr=False)
    prepare: Callable[[Sequence[Example]], Sequence[Prepared]]
    validation: Sequence[Prepared] = field(repr=False)
    personal: PersonalSettings
    decay: float
    shared: Vector | None = field(repr=False)
    random: Random
    watch: Callable[[int, int], None] = lambda _done, _total: None
    checkpoint: Callable[[bytes], None] = lambda _state: None
    fits: list[Fit] = field(default_factory=list)
    seed: bytes = field(default=b"", repr=False)

    def run(self, state: bytes | None = None) -> Fit:
        """The best way with its best adapter; goes on from `state` where there is one."""
        if state:
            self.seed, self.fits = resume(state)
        else:
            self.seed, self.fits = self.random(SEED_BYTES), self._begun()
        order = self._order()
        unit = min(UNIT, len(self.examples))
        while len(self.fits) > 1:
            goal = unit * 2 ** (len(RATES) - len(self.fits))
            for fit in self.fits:
                while fit.seen < goal:
                    self._advance(fit, order, unit)
            self.fits = sorted(self.fits, key=lambda one: one.best)[: len(self.fits) - 1]
        (last,) = self.fits
        while not last.spent and last.seen < MOST_PASSES * len(self.examples):
            self._advance(last, order, unit)
        return last

    def _begun(self) -> list[Fit]:
        start = self.backbone.personal.initial(BOTH)
        return [Fit(self.personal.rate * times, start.copy()) for times in RATES]

    def _order(self) -> list[int]:
        """The examples of all passes, each pass in an order of its own; the same for every way."""
        chance = np.random.default_rng(int.from_bytes(self.seed, "big"))
        passes = (chance.permutation(len(self.examples)) for _ in range(MOST_PASSES))
        return [int(index) for one in passes for index in one]

    def _advance(self, fit: Fit, order: Sequence[int], unit: int) -> None:
        chosen = [self.examples[index] for index in order[fit.seen : fit.seen + unit]]
        self._learn(fit, self.prepare(chosen))
        fit.seen += len(chosen)
        with self.backbone.using(self.shared, fit.vector):
            fit.looks.append(mean_loss(self.backbone.score(self.validation)))
        if fit.looks[-1] <= fit.best:
            fit.best_vector, fit.best_seen = fit.vector, fit.seen
        self.watch(sum(one.seen for one in self.fits), MOST_PASSES * len(self.examples))
        self.checkpoint(saved(self.seed, self.fits))

    def _learn(self, fit: Fit, chosen: Sequence[Prepared]) -> None:
        plan, model = self.backbone.personal, self.backbone.model
        with (
            self.backbone.using(self.shared, fit.vector),
            lora.trainable(model, lora.PERSONAL, plan, BOTH) as layers,
        ):
            parameters = list(layers.parameters())
            optimizer = torch.optim.AdamW(parameters, lr=fit.rate, weight_decay=self.decay)
            _restore(optimizer, parameters, fit)
            batches = list(_batches(chosen, self.personal.batch))
            loss = LossSum(self.backbone)
            plain_steps(optimizer, batches, self.backbone.batches, loss)
            fit.steps += len(batches)
            fit.tokens += loss.tokens
            fit.first, fit.second = (_flat(optimizer, parameters, m) for m in MOMENTS)
        fit.vector = lora.read(model, lora.PERSONAL, plan, BOTH)


MOMENTS = "exp_avg", "exp_avg_sq"
COUNTS = "steps", "seen", "tokens", "best_seen"


def _batches(chosen: Sequence[Prepared], size: int) -> Iterator[Sequence[Prepared]]:
    for start in range(0, len(chosen), size):
        yield chosen[start : start + size]


def _restore(
    optimizer: torch.optim.Optimizer, parameters: Sequence[torch.nn.Parameter], fit: Fit
) -> None:
    if not fit.steps:
        return
    at = 0
    for one in parameters:
        part = slice(at, at + one.numel())
        moments = {
            name: torch.from_numpy(flat[part].copy()).view_as(one).to(one.device)
            for name, flat in zip(MOMENTS, (fit.first, fit.second), strict=True)
        }
        optimizer.state[one] = {"step": torch.tensor(float(fit.steps)), **moments}
        at = part.stop


def _flat(
    optimizer: torch.optim.Optimizer, parameters: Sequence[torch.nn.Parameter], name: str
) -> Vector:
    parts = [optimizer.state[one][name].reshape(-1).cpu().numpy() for one in parameters]
    return np.concatenate(parts).astype(np.float32)


def saved(seed: bytes, fits: Sequence[Fit]) -> bytes:
    """The ways as far as they have come, as bytes: the numbers as JSON, then the vectors.

    Args:
        seed: Of the order of the examples.
    """
    arrays = [(one.vector, one.first, one.second, one.best_vector) for one in fits]
    head = [
        {"rate": one.rate, "looks": one.looks, "sizes": [len(array) for array in own],
         **{name: getattr(one, name) for name in COUNTS}}
        for one, own in zip(fits, arrays, strict=True)
    ]  # fmt: skip
    body = b"".join(array.astype("<f4").tobytes() for own in arrays for array in own)
    spelled = json.dumps({"seed": seed.hex(), "fits": head}).encode()
    return len(spelled).to_bytes(8, "big") + spelled + body


def resume(state: bytes) -> tuple[bytes, list[Fit]]:
    """Inverse of `saved`.

    Raises:
        ValueError: It is no such state.
    """
    end = 8 + int.from_bytes(state[:8], "big")
    fits = []
    head = json.loads(state[8:end])
    for one in head["fits"]:
        arrays = []
        for size in one["sizes"]:
            arrays.append(np.frombuffer(state[end : end + 4 * size], "<f4").astype(np.float32))
            end += 4 * size
        vector, first, second, best = arrays
        counts: dict[str, int] = {name: one[name] for name in COUNTS}
        fits.append(Fit(one["rate"], vector, first, second, best, **counts, looks=one["looks"]))
    return bytes.fromhex(head["seed"]), fits


def apart(count: int) -> int:
    """How many of so many examples, the newest, are looked at to decide; 0: there are too few."""
    if count < LEAST:
        return 0
    return max(LEAST_VALIDATION, min(MOST_VALIDATION, round(VALIDATION_SHARE * count)))
