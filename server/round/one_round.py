"""A federated round (docs/DESIGN.md, section 4), top to bottom.

The server sees who took part, equal-sized masked updates, and their sum. The mean gives every
survivor weight 1: no example count is sent.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from common.adapter.plan import Vector
from common.adapter.weights import Shared, encode_shared
from common.errors import RoundAbandonedError
from common.privacy.evaluation import planned_evaluations, split
from common.rounds.outcomes import ABANDONED, DONE, HELD
from common.rounds.round_terms import user_rho
from common.secagg.quantize import dequantize, from_ring
from server.registry.evaluations import Evaluation, judged
from server.registry.registry import START, RoundEntry, RuleState
from server.round import aggregation
from server.round.cohort import ADOPT, Cohort
from server.round.setup import Ahead, Federation, Setup, ask, cold, draw, offer
from server.round.spending import spent_after

log = logging.getLogger("privity.server")
HAND_OUT_S = 30.0


@dataclass(frozen=True, slots=True)
class SecureSum:
    """What a round reveals: the mean of the survivors' updates, and how many they were.

    `gain` is their mean gain from the adapter they were given, in nats; None where the run
    has no evaluation.
    """

    mean: Vector
    survivors: int
    gain: float | None


def run_round(
    federation: Federation, number: int, prepared: Setup | None
) -> tuple[RoundEntry, Setup | None]:
    """Ask a cohort for round `number`; publish what comes of it, or note why nothing was published.

    A round that is abandoned before a member was asked for an update has cost nobody anything: it
    does not count, and its number is free for another attempt.

    Args:
        prepared: The round's setup, where the round before carried it along.

    Returns:
        The outcome, and the setup of the following round where this one carried it along.
    """
    begin, registry = time.monotonic(), federation.registry
    shared, state = registry.latest()
    cohort = prepared.cohort if prepared else draw(federation, number)
    size, setup, ahead = len(cohort.members), prepared, Ahead(None)
    try:
        setup = setup or cold(federation.messenger, offer(federation, cohort))
        _note_cost(federation, setup)
        ahead = Ahead.of(federation, number + 1)
        total = secure_mean(federation, setup, shared, ahead)
    except RoundAbandonedError as error:
        log.warning("round %d abandoned: %s", number, error)
        seconds, charged = time.monotonic() - begin, registry.charged(number, cohort.attempt)
        why = "; ".join([str(error).rstrip("."), *_losses(cohort, setup)]) + "."
        entry = RoundEntry(number, ABANDONED, size, 0, seconds, shared.digest(), charged, why)
        registry.abandon(entry)
    else:
        entry = _conclude(federation, setup, total, (shared, state), begin)
    for loss in _losses(cohort, setup):
        log.warning("round %d: %s", number, loss)
    return entry, ahead.setup


def _conclude(
    federation: Federation,
    setup: Setup,
    total: SecureSum,
    start: tuple[Shared, RuleState],
    begin: float,
) -> RoundEntry:
    """Publish what the sum leads to; nothing where the round's own start proved worse."""
    registry, (shared, state) = federation.registry, start
    found = _found(federation, setup, total)
    number, size = setup.terms.round, len(setup.cohort.members)
    if found and found.worse_than is not None:
        back = registry.version(found.parent)[0].digest()
        seconds = time.monotonic() - begin
        entry = RoundEntry(number, HELD, size, total.survivors, seconds, back)
        registry.hold(entry, found)
        log.warning("round %d: %s; back to version %d", number, found.verdict(), found.parent)
        return entry
    vector, state = aggregation.apply(
        federation.settings.training, state, shared.vector, total.mean
    )
    following = Shared(shared.plan, vector.astype(np.float32))
    seconds = time.monotonic() - begin
    entry = RoundEntry(number, DONE, size, total.survivors, seconds, following.digest())
    registry.publish(entry, following, state, shared.digest(), found)
    return entry


def _found(federation: Federation, setup: Setup, total: SecureSum) -> Evaluation | None:
    """The evaluation of the version that the round started from.

    None without one, for the start, which changes nothing in the model, and where so many attempts
    were made that some devices have nothing left to evaluate with and sent noise alone.
    """
    settings, registry = federation.settings, federation.registry
    version, parent = registry.lineage()
    if total.gain is None or version == START:
        return None
    attempts = len(registry.user_rhos())
    if settings.rounds.cohort_rate >= 1 and attempts > planned_evaluations(settings.rounds):
        log.info("round %d: the evaluations of this run are spent", setup.terms.round)
        return None
    known = registry.evaluations()
    return judged(settings, setup.terms, total.survivors, total.gain, (version, parent), known)


def secure_mean(federation: Federation, setup: Setup, shared: Shared, ahead: Ahead) -> SecureSum:
    """Three exchanges of secure aggregation; the mean over those who stayed to the masked update.

    Raises:
        RoundAbandonedError: When too few stayed; nothing was revealed.
    """
    cohort, aggregator, exchange = setup.cohort, setup.aggregator, federation.messenger.exchange
    aggregator.bind(bytes.fromhex(shared.digest()))

    offers = ask(cohort, "update", setup.inboxes, adapter=encode_shared(shared))
    masked, adverts = exchange(offers, ahead.next)
    ahead.take(adverts)
    survivors = aggregator.survivors(masked)
    signed, shares = exchange(ask(cohort, "confirm", survivors), ahead.next)
    ahead.take(shares)
    confirmations = aggregator.confirmations(signed)
    revealed, opened = exchange(ask(cohort, "reveal", confirmations), ahead.next)
    ahead.take(opened)
    total = aggregator.unmask(revealed)

    terms = setup.terms
    mean = dequantize(from_ring(total, terms.bits), terms.clip, terms.levels) / len(survivors)
    update, gain = split(federation.settings, mean)
    return SecureSum(update.astype(np.float32), len(survivors), gain)


def hand_out(federation: Federation, wanted: Callable[[], bool]) -> int:
    """Give everybody who is online the newest adapter; how many answered, which says no more.

    Whoever has gone without a word is waited for half a minute, or until a round is wanted.
    """
    end = time.monotonic() + HAND_OUT_S
    entries = federation.registry.rounds()
    if not any(entry.status == DONE for entry in entries):
        return 0
    shared, _ = federation.registry.latest()
    there = [one for one in federation.online() if one not in federation.messenger.silent]
    everybody = Cohort(len(entries), 0, there, lambda *_: False)
    bodies = dict.fromkeys(there, encode_shared(shared))
    taken, _ = federation.messenger.exchange(
        ask(everybody, ADOPT, bodies), enough=lambda: wanted() or time.monotonic() > end
    )
    return len(taken)


def _note_cost(federation: Federation, setup: Setup) -> None:
    """What this attempt costs a person who answers it, kept before anybody is asked to update."""
    terms, registry = setup.terms, federation.registry
    registry.note_price(federation.settings)
    registry.note_rho(terms.round, terms.attempt, user_rho(terms))
    registry.note_spent(spent_after(federation.settings, registry.user_rhos()))


def _losses(cohort: Cohort, setup: Setup | None) -> list[str]:
    """How many devices refused for which reason, or were left out, a sentence each."""
    invalid = setup.aggregator.refused.values() if setup else ()
    reasons = Counter([*cohort.refused.values(), *invalid])
    refused = [f"{count} devices refused: {reason}" for reason, count in sorted(reasons.items())]
    unopened = setup.aggregator.unopened() if setup else ""
    return [*refused, unopened] if unopened else refused
