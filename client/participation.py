"""The device's side of one federated round: five legs, each a function from bytes to bytes.

The state between legs is in the device's store, so that a restart neither loses a round nor masks
twice. The ledger is charged before the masked update exists.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from client.budget import next_release
from client.device import Device
from client.store import Upload
from client.training import train_shared
from common.adapter.plan import Vector
from common.adapter.state import Shared, decode_shared
from common.backbone import adapter_plans, backbone_for
from common.config import MIN_COHORT, Settings
from common.errors import ProtocolError
from common.graph import graph_size
from common.privacy.accountant import Release
from common.secagg import Participant, RoundTerms, levels_for, quantize, to_ring

ROUND, TERMS, KEPT = "round", "terms", "kept"
LOSS, TOKENS, CLIPPED = "loss", "trained-tokens", "clipped"


def advertise(device: Device, settings: Settings, terms: bytes) -> bytes:
    """Leg 1: check the terms against what this device accepts; answer with signed round keys."""
    agreed = RoundTerms.decode(terms)
    _check_policy(agreed, settings)
    participant = Participant(
        agreed,
        device.member,
        device.identity.key,
        device.identity.certificate,
        device.identity.authority,
        device.randomness.stream(_purpose(agreed, "advertise")),
    )
    device.store.put(TERMS, terms)
    return _answer(device, agreed, participant, "advertise", participant.advertise())


def share(device: Device, roster: bytes) -> bytes:
    """Leg 2: everybody's keys in, encrypted shares of this device's secrets out."""
    return _leg(device, "share", lambda participant: participant.share(roster))


def update(device: Device, settings: Settings, inbox: bytes, adapter: bytes) -> bytes:
    """Leg 3: train from the published adapter, charge the ledger, mask, answer."""
    terms = _terms(device)
    published = decode_shared(adapter_plans(settings)[0], adapter)
    if published.digest() != terms.adapter:
        raise ProtocolError("the adapter is not the one named in the terms of the round.")

    def leg(participant: Participant) -> bytes:
        sent = _train(device, settings, terms, published)
        integers, clipped = quantize(sent - published.vector, terms.clip, terms.levels)
        device.store.put(CLIPPED, str(clipped).encode())
        return participant.mask(inbox, to_ring(integers, terms.bits))

    return _leg(device, "update", leg)


def confirm(device: Device, survivors: bytes) -> bytes:
    """Leg 4: sign the one list of survivors."""
    return _leg(device, "confirm", lambda participant: participant.confirm(survivors))


def reveal(device: Device, confirmations: bytes) -> bytes:
    """Leg 5: for each neighbour its self-mask share or its key share, never both."""
    answer = _leg(device, "reveal", lambda participant: participant.reveal(confirmations))
    device.store.drop(ROUND)
    return answer


def _check_policy(terms: RoundTerms, settings: Settings) -> None:
    terms.validate()
    if terms.cohort < MIN_COHORT:
        raise ProtocolError(f"a cohort of {terms.cohort} is below this device's {MIN_COHORT}.")
    if not 1 <= terms.round <= settings.rounds:
        raise ProtocolError(f"round {terms.round} is not one of the run's {settings.rounds}.")
    if terms.training != settings.digest():
        raise ProtocolError("the terms name other training settings than this run's.")
    plan = adapter_plans(settings)[0]
    neighbours, threshold = graph_size(settings, terms.cohort)
    wanted = {
        "neighbours": neighbours,
        "threshold": threshold,
        "dimension": plan.dimension,
        "seed": settings.seed,
        "clip": settings.update_range,
        "bits": settings.modulus_bits,
        "levels": levels_for(terms.cohort, settings.modulus_bits),
    }
    for name, value in wanted.items():
        if getattr(terms, name) != value:
            raise ProtocolError(f"the terms' {name} is {getattr(terms, name)}, wanted {value}.")


def _train(device: Device, settings: Settings, terms: RoundTerms, published: Shared) -> Vector:
    release = _charge(device, settings, terms)
    backbone = backbone_for(settings)
    generator = _generator(device, terms)
    kept = device.store.get(KEPT)
    trained = train_shared(
        backbone,
        published,
        None if kept is None else np.frombuffer(kept, dtype="<f4"),
        backbone.prepared(device.train),
        settings,
        release,
        generator,
    )
    if len(trained.kept):
        device.store.put(KEPT, trained.kept.astype("<f4").tobytes())
    device.store.put(LOSS, str(trained.loss).encode())
    before = int(device.store.get(TOKENS) or b"0")
    device.store.put(TOKENS, str(before + trained.tokens).encode())
    return trained.sent


def _charge(device: Device, settings: Settings, terms: RoundTerms) -> Release | None:
    if not settings.dp:
        without = Release(0.0, settings.sample_rate, settings.local_steps)  # ε is infinite
        device.store.charge(terms.run, terms.round, terms.attempt, without)
        return None
    release = next_release(device.store.releases(), settings, terms.round)
    device.store.charge(terms.run, terms.round, terms.attempt, release)
    return release


def _generator(device: Device, terms: RoundTerms) -> torch.Generator:
    seed = device.randomness.stream(_purpose(terms, "noise"))(8)
    return torch.Generator().manual_seed(int.from_bytes(seed, "little") >> 1)


def _purpose(terms: RoundTerms, stage: str) -> str:
    return f"{terms.run}/{terms.round}/{terms.attempt}/{stage}"


def _terms(device: Device) -> RoundTerms:
    terms = device.store.get(TERMS)
    if terms is None:
        raise ProtocolError("no round is under way on this device.")
    return RoundTerms.decode(terms)


def _leg(device: Device, stage: str, step: Callable[[Participant], bytes]) -> bytes:
    saved = device.store.get(ROUND)
    if saved is None:
        raise ProtocolError("no round is under way on this device.")
    terms = _terms(device)
    participant = Participant.load(
        saved,
        device.identity.key,
        device.identity.certificate,
        device.identity.authority,
        device.randomness.stream(_purpose(terms, stage)),
    )
    try:
        message = step(participant)
    except BaseException:
        device.store.drop(ROUND)  # no second try with the same keys
        raise
    return _answer(device, terms, participant, stage, message)


def _answer(
    device: Device, terms: RoundTerms, participant: Participant, stage: str, message: bytes
) -> bytes:
    device.store.put(ROUND, participant.save())
    device.store.journal(Upload(terms.run, terms.round, terms.attempt, stage, len(message)))
    return message
