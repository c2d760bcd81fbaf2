"""Reconstruction: which of N candidate examples was this single update trained on?

The attacker knows the published adapter and all candidates, computes the update that each would
give, and takes the one whose direction is nearest (cosine). It is tried on the update as it is, on
one with record-level noise, and on the masked one that the server really receives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from common.adapter.plan import Vector
from common.adapter.weights import Shared
from common.learning.backbone import Backbone, Prepared, adapter_plans
from common.privacy.accountant import Release
from common.secagg import from_ring, levels_for, unpack
from common.settings import Settings
from common.tasks import task_of
from simulations.evidence.attacks.on_privity.attacker import HEADER_BYTES
from simulations.evidence.attacks.on_privity.round import MASK, MEMBERS, TERMS, VICTIM, PrivityRound
from simulations.evidence.audit.bound import interval
from simulations.evidence.audit.findings import SHOWN, Finding, judged
from simulations.evidence.audit.people import examples_of, talk
from simulations.evidence.audit.scale import CLAIMED_EPSILON, DELTA, Scale
from simulations.evidence.audit.system import System, stream

CHECK = "reconstruction of one update"
CANDIDATES = 32
CONFIDENCE = 0.999  # chance is exactly 1 in 32: at 95 % one sound audit in 40 would fail
Wire = Callable[[Vector, int], NDArray[np.floating]]  # update and trial, to what the server has


def reconstruction(system: System, scale: Scale, seed: int) -> list[Finding]:
    """Three findings: in the clear, in the clear with noise, and masked."""
    planned = Settings.of(model="tiny", rounds=1, epsilon=CLAIMED_EPSILON, delta=DELTA, examples=2)
    settings = system.learning(planned)
    backbone = Backbone(
        task_of(settings.task), settings.model.name, *adapter_plans(settings), settings.model.dtype
    )
    turns = examples_of(talk(seed, "reconstruction/person"), CANDIDATES, settings.task)
    candidates = backbone.prepared(turns)
    release = system.steps.next_release([], settings, 1)

    def updates(chosen: list[int], sigma: float) -> list[Vector]:
        spent = replace(release, noise_multiplier=sigma)
        return [
            _update(system, backbone, settings, candidates[row], spent, f"{seed}/{trial}")
            for trial, row in enumerate(chosen)
        ]

    drawn = _draws(scale.trials, seed)
    wanted = np.stack(updates(list(range(CANDIDATES)), 0.0))
    bare, noisy = updates(drawn, 0.0), updates(drawn, release.noise_multiplier)
    masked = [_masked(system, update, seed, trial) for trial, update in enumerate(bare)]
    return [
        _finding(system, "in the clear", _hits(bare, wanted, drawn), scale, None),
        _finding(system, "with DP noise", _hits(noisy, wanted, drawn), scale, _under_dp()),
        _finding(system, "masked", _hits(masked, wanted, drawn), scale, 1 / CANDIDATES),
    ]


def _update(
    system: System,
    backbone: Backbone,
    settings: Settings,
    example: Prepared,
    release: Release,
    purpose: str,
) -> Vector:
    plan = backbone.shared
    published = Shared(plan, plan.initial(plan.sent))
    random = stream(0, f"reconstruction/{purpose}")
    given = backbone, published, None, [example], settings, release, random
    trained = system.steps.train_shared(*given, steps=system.steps.private)
    return trained.sent - published.vector


def _masked(system: System, update: Vector, seed: int, trial: int) -> NDArray[np.int64]:
    """The victim's vector as the server receives it, read as if there were no mask."""
    terms = replace(
        TERMS,
        dimension=update.size,
        clip=float(np.abs(update).max()),
        levels=levels_for(len(MEMBERS), TERMS.bits),
    )
    purpose = f"reconstruction/masks/{trial}"
    sent = PrivityRound(
        terms,
        kind=system.steps.participant,
        update=lambda _: update,
        random=lambda member: stream(seed, f"{purpose}/{member}"),
    )
    message = sent.until(MASK + 1).sent[MASK][VICTIM]
    packed = message[HEADER_BYTES + 8 :]
    return from_ring(unpack(packed, terms.bits, terms.dimension), terms.bits)


def _hits(
    seen: list[NDArray[np.float32]] | list[NDArray[np.int64]],
    wanted: NDArray[np.float32],
    drawn: list[int],
) -> int:
    """How often the candidate of the largest cosine is the true one."""
    directions = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
    guesses = [int((directions @ vector.astype(np.float64)).argmax()) for vector in seen]
    return sum(guess == row for guess, row in zip(guesses, drawn, strict=True))


def _under_dp() -> float:
    """The most that ε for one example added or removed allows: 2ε for one in place of another."""
    factor = float(np.exp(2 * CLAIMED_EPSILON))
    return factor / (factor + CANDIDATES - 1) + 2 * DELTA * factor


def _draws(trials: int, seed: int) -> list[int]:
    words = np.frombuffer(stream(seed, "reconstruction/draws")(trials), dtype=np.uint8)
    return [int(word) % CANDIDATES for word in words]  # 32 divides 256


def _finding(system: System, what: str, hits: int, scale: Scale, allowed: float | None) -> Finding:
    low, high = interval(hits, scale.trials, CONFIDENCE)
    rate = hits / scale.trials
    return Finding(
        f"{CHECK}, {what}",
        system.name,
        f"{scale.trials} updates, each trained on one of {CANDIDATES} examples; guess which",
        f"{rate:.0%} right ({low:.0%} to {high:.0%}, {CONFIDENCE:.1%})",
        "nothing" if allowed is None else f"{allowed:.1%} right at most",
        SHOWN if allowed is None else judged(system.name, refuted=low > allowed),
        {
            "right": hits,
            "trials": scale.trials,
            "rate_low": round(low, 4),
            "rate_high": round(high, 4),
            "chance": 1 / CANDIDATES,
        },
    )
