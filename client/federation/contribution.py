"""What a device contributes to a round, apart from the protocol that carries it.

`begin` decides and pays, `train` learns, `finish` gives the integers that are summed. Between the
first two lies a `Job`, so that whoever has several devices' jobs can train them together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from client.federation import draws, gain
from client.federation.device import Device
from client.federation.examples import for_release, readable
from client.federation.policy import Asked
from client.learning.adapters import KEPT, kept_here
from client.learning.training import Trained
from client.vault.ledger import Charge
from common.adapter.plan import AdapterPlan, Vector
from common.adapter.weights import Shared
from common.learning.backbone import Backbone
from common.secagg import RoundTerms, quantize
from common.settings import Settings, UserLevel
from common.system.signals import ENDS
from common.tasks.task import Example

LOSS, TOKENS, CLIPPED, COORDINATES = "loss", "trained-tokens", "clipped", "coordinates"
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Job:
    """One device's training for one round, agreed to and charged. The repr shows nothing personal.

    Attributes:
        published: The adapter that training starts from.
        kept: Parts of it that stayed here after the last round (FedSA's B), if any.
        charge: What was entered in the ledger.
        train, heldout: The examples in the window of this release, readable or not.
    """

    settings: Settings
    terms: RoundTerms
    published: Shared = field(repr=False)
    kept: Vector | None = field(repr=False)
    backbone: Backbone = field(repr=False)
    charge: Charge = field(repr=False)
    train: Sequence[Example] = field(repr=False)
    heldout: Sequence[Example] = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class Learnt:
    """The weights after a job's training, and the evaluation's coordinate: [1], or [0] for none."""

    trained: Trained
    figure: Vector


def agreed_cost(device: Device, settings: Settings, terms: RoundTerms) -> Charge:
    """What the round will cost; the person's own policy agrees to it.

    Raises:
        BudgetExceededError: The device cannot afford the round.
        DeclinedError: The policy says no.
    """
    cost = device.steps.cost(device, settings, terms)
    device.consent(_asked(settings, terms, cost))
    return cost


def begin(device: Device, settings: Settings, terms: RoundTerms, published: Shared) -> Job:
    """Ask the policy, choose the examples, load the model, charge the ledger.

    Raises:
        BudgetExceededError, DeclinedError: As in `agreed_cost`.
        ProtocolError: This attempt at the round was charged already.
    """
    charge = agreed_cost(device, settings, terms)
    counting = device.randomness.stream(purpose(terms, "count-noise"))
    chosen = for_release(device, settings.rounds, charge.count, counting)
    charge = replace(
        charge,
        data=gain.fingerprint(chosen.train),
        heldout=gain.fingerprint(chosen.heldout),
    )
    kept = kept_here(device.store, published.plan)
    backbone = device.steps.backbone(settings)  # a model that is missing costs nothing
    device.store.ledger.charge(charge)
    return Job(settings, terms, published, kept, backbone, charge, chosen.train, chosen.heldout)


def train(device: Device, job: Job) -> Learnt:
    """Score the published adapter, then train from it.

    What cannot be read is left out. Where learning fails, it is done again with no examples.
    """
    encode = job.backbone.encode
    figure = _or_of_none(device, job, _scored, readable(device, encode, job.heldout))
    trained = _or_of_none(device, job, _trained, readable(device, encode, job.train))
    return Learnt(trained, figure)


def finish(device: Device, job: Job, learnt: Learnt) -> NDArray[np.int64]:
    """Keep what stays here; what is summed, in levels: [terms.dimension]."""
    _keep(device, job.published.plan, learnt.trained)
    draws.paid(device.store)
    change = learnt.trained.sent - job.published.vector
    return summand(device, job.settings.user, job.terms, change, learnt.figure)


def summand(
    device: Device, user: UserLevel, terms: RoundTerms, change: Vector, figure: Vector
) -> NDArray[np.int64]:
    """The clipped update and the figure, in levels, with this device's share of the noise."""
    steps = device.steps
    if terms.noise:
        if not np.isfinite(change).all():  # a refusal would tell something that no noise covers
            change = np.zeros_like(change)
        bounded = steps.clip_norm(change, user.clip)
        clipped = change.size if not np.array_equal(bounded, change) else 0
        both = np.concatenate([bounded, figure])
        exact = steps.quantize_towards_zero(both, terms.clip, terms.levels)
        random = device.randomness.stream(purpose(terms, "user-noise"))
        integers = exact + steps.noise_share(exact.size, terms.noise, random)
    else:
        narrow, clipped = quantize(np.concatenate([change, figure]), terms.clip, terms.levels)
        integers = narrow.astype(np.int64)
    with device.store.together():
        device.store.count(CLIPPED, clipped)
        device.store.count(COORDINATES, change.size)
    return integers


def purpose(terms: RoundTerms, stage: str) -> str:
    """What a stream of a device's randomness is for: one stage of one attempt at a round."""
    return f"{terms.run}/{terms.round}/{terms.attempt}/{stage}"


def _asked(settings: Settings, terms: RoundTerms, cost: Charge) -> Asked:
    """What the round asks, as the device's policy reads it."""
    assert cost.record_spent and cost.user_spent
    return Asked(
        cohort=terms.least,
        record_epsilon=cost.record_spent.epsilon,
        user_epsilon=cost.user_spent.epsilon,
        upload_bytes=terms.dimension * terms.bits // 8,
        model=settings.model.name,
        record_delta=settings.record.delta,
        user_delta=settings.user.delta,
    )


def _scored(device: Device, job: Job, answers: Sequence[Example]) -> Vector:
    """The evaluation's coordinate, of these answers if the ledger was charged for them."""
    random = device.randomness.stream(purpose(job.terms, "evaluation-noise"))
    counted = answers if job.charge.evaluation else None
    return gain.coordinate(device.steps, job.settings, job.published, job.kept, counted, random)


def _trained(device: Device, job: Job, answers: Sequence[Example]) -> Trained:
    """The weights after training on these answers."""
    steps, settings = device.steps, job.settings
    random = device.randomness.stream(purpose(job.terms, "noise"))
    prepared, record = (
        job.backbone.prepared(answers),
        job.charge.record if settings.record.dp else None,
    )
    found = steps.train_shared(
        job.backbone, job.published, job.kept, prepared, settings, record, random,
        steps=steps.private,
    )  # fmt: skip
    if not job.terms.noise and not np.isfinite(found.sent).all():
        raise FloatingPointError("the update is not finite")
    return found


def _or_of_none(
    device: Device,
    job: Job,
    learn: Callable[[Device, Job, Sequence[Example]], Found],
    answers: Sequence[Example],
) -> Found:
    """What is learnt from the answers; from none, which leaves the noise, where that fails.

    Whether it fails can depend on what was said, and is nobody else's to know.
    """
    try:
        return learn(device, job, answers)
    except ENDS:
        raise
    except BaseException as error:
        device.failed(error)
        return learn(device, job, ())


def _keep(device: Device, plan: AdapterPlan, trained: Trained) -> None:
    """What stays here of a round's training."""
    with device.store.together():
        if len(trained.kept):
            key = f"{KEPT}{plan.digest()}"
            device.store.put(key, trained.kept.astype("<f4").tobytes())
        device.store.put(LOSS, str(trained.loss).encode())
        device.store.count(TOKENS, trained.tokens)
