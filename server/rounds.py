"""A federated round (docs/DESIGN.md, section 4), top to bottom.

The server sees who took part, equal-sized masked updates, and their sum. The mean gives every
survivor weight 1: no example count is sent.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from common.adapter.plan import Vector
from common.adapter.state import Shared, encode_shared
from common.config import Settings
from common.errors import RoundAbandonedError
from common.secagg import Aggregator, RoundTerms
from common.secagg.quantize import dequantize, from_ring
from server import aggregation
from server.cohort import Cohort
from server.registry import Registry, RoundEntry
from server.terms import round_terms

log = logging.getLogger("privity.server")


@dataclass(frozen=True, slots=True)
class SecureSum:
    """What a round reveals: the mean of the survivors' updates, and how many they were."""

    mean: Vector
    survivors: int


def run_round(
    cohort: Cohort,
    registry: Registry,
    settings: Settings,
    authority: Ed25519PublicKey,
    run: str,
    number: int,
    attempt: int,
) -> RoundEntry:
    """Ask the cohort for a round; publish what comes of it, or note that it was abandoned."""
    begin = time.monotonic()
    shared, state = registry.latest()
    size = len(cohort.members)
    try:
        terms = round_terms(settings, shared, run, number, attempt, size)
        total = secure_mean(cohort, terms, shared, authority)
    except RoundAbandonedError as error:
        log.warning("round %d abandoned: %s", number, error)
        seconds = time.monotonic() - begin
        entry = RoundEntry(number, "abandoned", size, 0, seconds, shared.digest())
        registry.abandon(entry)
        return entry
    vector, state = aggregation.apply(settings, state, shared.vector, total.mean)
    following = Shared(shared.plan, vector.astype(np.float32))
    seconds = time.monotonic() - begin
    entry = RoundEntry(number, "done", size, total.survivors, seconds, following.digest())
    registry.publish(entry, following, state)
    return entry


def secure_mean(
    cohort: Cohort, terms: RoundTerms, shared: Shared, authority: Ed25519PublicKey
) -> SecureSum:
    """Five legs of secure aggregation; the mean over those who stayed to the masked update.

    Raises:
        RoundAbandonedError: When too few stayed; nothing was revealed.
    """
    aggregator = Aggregator(terms, authority)
    published = encode_shared(shared)
    invited = {member: {"body": terms.encode()} for member in cohort.members}

    adverts = cohort.ask("advertise", invited)
    rosters = aggregator.roster(adverts)
    shares = cohort.ask("share", _bodies(rosters))
    inboxes = aggregator.inboxes(shares)
    offers = {m: {"body": inbox, "adapter": published} for m, inbox in inboxes.items()}
    masked = cohort.ask("update", offers)
    survivors = aggregator.survivors(masked)
    signed = cohort.ask("confirm", _bodies(survivors))
    confirmations = aggregator.confirmations(signed)
    revealed = cohort.ask("reveal", _bodies(confirmations))
    total = aggregator.unmask(revealed)

    mean = dequantize(from_ring(total, terms.bits), terms.clip, terms.levels) / len(survivors)
    return SecureSum(mean.astype(np.float32), len(survivors))


def _bodies(messages: dict[int, bytes]) -> dict[int, dict[str, bytes]]:
    return {member: {"body": message} for member, message in messages.items()}
