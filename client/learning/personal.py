"""The personal adapter, fitted on the device's own records and kept only if it helps.

Plain objects in and out: whoever holds the vault reads the records and stores what is kept. The
held-out answers are never trained on; the adapter must improve them by more than chance explains.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from client.learning.fitting import Fit, Fitting, apart
from client.learning.training import train_personal
from common.adapter.plan import Vector
from common.adapter.weights import Personal, Shared, whole
from common.errors import InputError
from common.learning.backbone import MEMORY_BYTES, Backbone, Prepared, backbone_for
from common.privacy.randomness import Random
from common.records.records import Record
from common.settings import PersonalSettings, Settings
from common.tasks import task_of
from common.tasks.sets import divide, first
from common.tasks.task import Example, Score, Task

MIN_TRAIN, MIN_HELD_OUT = 4, 4
MOST_HELD_OUT = 400  # examples; so many tell small gains from chance, and more take long
CONFIDENCE = 0.95
FLOAT32_BYTES = 4

# What is being done, how much of it is done, and how much there is; units are examples.
Progress = Callable[[str, int, int], None]


def no_progress(what: str, done: int, total: int) -> None:
    """Watch nothing."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Where a fit is kept that is not done: by the name of all that it depends on, as bytes."""

    load: Callable[[str], bytes | None] = lambda _name: None
    save: Callable[[str, bytes], None] = lambda _name, _state: None


NOWHERE = Unfinished()


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a fit gave on held-out examples. `personal` is None when it was not kept.

    Losses are means over all predictions, in nats. `gain` is the loss without the personal adapter
    less that with it, `gain_low` and `gain_high` its interval of 95 %, paired over examples.
    """

    personal: Personal | None = field(repr=False)
    train: int  # examples
    heldout: int  # examples
    tokens: int  # trained on
    base_loss: float  # the base model alone
    before_loss: float  # with the shared adapter, when there is one
    after_loss: float  # with the new personal adapter too
    current_loss: float | None  # with the personal adapter that was there before
    gain: float
    gain_low: float
    gain_high: float
    reason: str  # why it was kept or not: one sentence
    task: Task  # what was learnt
    validation: int = 0  # examples that chose how to fit; 0: the settings did
    rate: float = 0.0  # of learning, as it was chosen
    passes: float = 0.0  # over the training examples, up to the adapter that was chosen

    @property
    def kept(self) -> bool:
        """Whether the new adapter is worth using."""
        return self.personal is not None


def train(
    records: Sequence[Record],
    shared: Shared | None,
    settings: Settings,
    progress: Progress = no_progress,
    *,
    key: bytes,
    kept: Vector | None = None,
    current: Personal | None = None,
    random: Random = os.urandom,
    unfinished: Unfinished = NOWHERE,
) -> TrainResult:
    """Fit the personal adapter on all of these records, on top of the shared adapter if any.

    From `fitting.LEAST` training examples on, the newest of them choose the learning rate and when
    to end (`fitting.py`); with fewer, the settings do. Held-out examples judge once.

    Args:
        key: Of this device, by which held-out answers are chosen.
        kept: The parts of the shared adapter that this device keeps (FedSA's B).
        current: The personal adapter in use; a worse one does not replace it.
        random: Of the order of the examples.
        unfinished: Keeps how far a fit has come, so that one that was interrupted goes on.

    Raises:
        InputError: When there are too few answers, or the shared adapter is another model's.
    """
    task = task_of(settings.task)
    training, heldout = divide(task.examples(records), key)
    heldout = first(heldout, key, MOST_HELD_OUT)
    _check(len(training), len(heldout), settings.personal, task)
    backbone = backbone_for(settings)
    fit = _Fit(backbone, settings, progress)
    weights = _weights(backbone, shared, kept)
    answers = backbone.prepared(heldout)

    base = fit.scores(answers)
    if not math.isfinite(_mean(base)):
        raise InputError(
            f"The loss of the base model {settings.model.name!r} on held-out {task.several} is "
            f"{_mean(base):g}.",
            "Its weights are damaged; nothing was trained.",
        )
    before = base if weights is None else fit.scores(answers, weights)
    if set_apart := apart(len(training)):
        found = fit.search(training, set_apart, random, weights, unfinished)
        personal, tokens = Personal(backbone.personal, found.best_vector), found.tokens
        rate, passes = found.rate, found.best_seen / (len(training) - set_apart)
    else:
        personal, tokens = fit.fit(backbone.prepared(training), random, weights)
        rate, passes = settings.personal.rate, float(settings.personal.epochs)
    after = fit.scores(answers, weights, personal.vector)
    previous = None
    if current is not None and current.plan == backbone.personal:  # another shape does not count
        previous = _mean(fit.scores(answers, weights, current.vector))

    gain, low, high = paired_gain(before, after)
    reason = _objection(low, _mean(after), previous, task)
    words = (
        f"Kept: it improves held-out {task.several} by {gain:.2f} {task.unit}"
        f" ({low:.2f} to {high:.2f})."
    )
    return TrainResult(
        personal=None if reason else personal,
        train=len(training),
        heldout=len(heldout),
        tokens=tokens,
        base_loss=_mean(base),
        before_loss=_mean(before),
        after_loss=_mean(after),
        current_loss=previous,
        gain=gain,
        gain_low=low,
        gain_high=high,
        reason=reason or words,
        task=task,
        validation=set_apart,
        rate=rate,
        passes=passes,
    )


def _name_of(training: Sequence[Example], settings: Settings, shared: Vector | None) -> str:
    """A digest of all that a fit depends on: only the same one goes on where it ended."""
    digest = hashlib.sha256(json.dumps(settings.to_dict(), sort_keys=True).encode())
    digest.update(b"" if shared is None else shared.tobytes())
    for one in training:
        digest.update(json.dumps([one.content, one.at]).encode())
    return digest.hexdigest()


class _Fit:
    """The backbone, and who watches."""

    def __init__(self, backbone: Backbone, settings: Settings, progress: Progress) -> None:
        self._backbone, self._settings, self._progress = backbone, settings, progress

    def fit(
        self, examples: Sequence[Prepared], random: Random, shared: Vector | None
    ) -> tuple[Personal, int]:
        total = len(examples) * self._settings.personal.epochs
        seen = 0

        def step(count: int) -> None:
            nonlocal seen
            seen += count
            self._progress("fitting", seen, total)

        return train_personal(
            self._backbone,
            examples,
            self._settings.personal,
            self._settings.training,
            random,
            shared=shared,
            step=step,
        )

    def search(
        self,
        training: Sequence[Example],
        set_apart: int,
        random: Random,
        shared: Vector | None,
        unfinished: Unfinished,
    ) -> Fit:
        """The best way to fit these examples, chosen by the newest of them."""
        backbone, settings = self._backbone, self._settings
        name = _name_of(training, settings, shared)
        fitting = Fitting(
            backbone,
            training[:-set_apart],
            self._preparation(training[:-set_apart]),
            backbone.prepared(training[-set_apart:]),
            settings.personal,
            settings.training.weight_decay,
            shared,
            random,
            watch=lambda done, total: self._progress("fitting", min(done, total), total),
            checkpoint=lambda state: unfinished.save(name, state),
        )
        return fitting.run(unfinished.load(name))

    def _preparation(
        self, training: Sequence[Example]
    ) -> Callable[[Sequence[Example]], Sequence[Prepared]]:
        """What makes examples ready: all of them once where memory allows, else as they come."""
        backbone = self._backbone
        tokens = sum(len(backbone.encode(one).ids) for one in training)
        if tokens * backbone.width * FLOAT32_BYTES > MEMORY_BYTES:
            return lambda some: backbone.prepare([backbone.encode(one) for one in some])
        ready = dict(zip(training, backbone.prepared(training), strict=True))
        return lambda some: [ready[one] for one in some]

    def scores(
        self,
        answers: Sequence[Prepared],
        shared: Vector | None = None,
        personal: Vector | None = None,
    ) -> list[Score]:
        """Each example's figures under these adapters."""
        given = {"shared": shared, "personal": personal}
        what = " + ".join(name for name, one in given.items() if one is not None) or "base"
        found = []
        with self._backbone.using(shared, personal):
            for done, answer in enumerate(answers, start=1):
                found.append(self._backbone.score([answer]))
                self._progress(f"evaluating {what}", done, len(answers))
        return found


def _weights(backbone: Backbone, shared: Shared | None, kept: Vector | None) -> Vector | None:
    """A and B of the shared adapter, if there is one.

    Raises:
        InputError: It is another model's.
    """
    if shared is None:
        return None
    if shared.plan != backbone.shared:
        raise InputError(
            "The shared adapter was made for another model or another shape.",
            "Train with the settings of the federation that it came from.",
        )
    return whole(shared, kept)


def _check(train: int, heldout: int, personal: PersonalSettings, task: Task) -> None:
    if train < MIN_TRAIN or heldout < MIN_HELD_OUT:
        raise InputError(
            f"There are {train} {task.several} to train on and {heldout} to evaluate on; "
            f"{MIN_TRAIN} and {MIN_HELD_OUT} are needed.",
            f"Import more {task.source}. {task.rule}.",
        )
    if personal.epochs == 0:
        raise InputError("personal_epochs is 0: there is nothing to fit.", "Set at least 1.")


def _objection(low: float, after: float, current: float | None, task: Task) -> str:
    """Why the adapter is not kept; empty when it is."""
    if not math.isfinite(after) or low <= 0:
        return f"Not kept: on held-out {task.several} it helps no more than chance would."
    if current is not None and after > current:
        return f"Not kept: the adapter in use is better on held-out {task.several}."
    return ""


def paired_gain(before: Sequence[Score], after: Sequence[Score]) -> tuple[float, float, float]:
    """Mean gain in nats and its interval, of figures before and after on the same examples.

    The ratio of sums, Σ gain over Σ predictions, with the linearised variance of a ratio estimator
    over examples (Cochran, Sampling Techniques, 3rd ed., 6.4) and Student's t.
    """
    from scipy.stats import t

    gains = np.array([b.loss - a.loss for b, a in zip(before, after, strict=True)])
    predictions = np.array([a.count for a in after])
    count = len(gains)
    mean = float(gains.sum() / predictions.sum())
    residuals = gains - mean * predictions
    error = math.sqrt(count / (count - 1) * float(residuals @ residuals))
    error /= float(predictions.sum())
    width = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    return mean, mean - width, mean + width


def _mean(scores: Sequence[Score]) -> float:
    return sum(score.loss for score in scores) / sum(score.count for score in scores)
