"""Record level with sampling: are batches Poisson batches at the rate that the ledger names?

Each probe has a coordinate to itself. In worlds with and without the probes the noise is the same,
so that the difference says exactly in how many of a round's steps each probe was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulations.evidence.audit.arithmetic import Noisy
from simulations.evidence.audit.evidence import Evidence, two_sided_chi2
from simulations.evidence.audit.exact_record import Probing, settings_for
from simulations.evidence.audit.findings import Finding
from simulations.evidence.audit.scale import STRENGTH, Scale
from simulations.evidence.audit.small_cohort import Person
from simulations.evidence.audit.system import System
from simulations.evidence.audit.witness import Witness, asked

CHECK = "record level, sampled batches"
RATE, STEPS, ROUNDS, PROBES = 0.3, 2, 24, 40
RUN = "audit/sampling"
NEAR = 0.02  # of C, that a difference may be from a whole number of it


def sampling(system: System, _scale: Scale, seed: int) -> list[Finding]:
    """Rate, independence of examples and of steps."""
    evidence = Evidence(system.name)
    settings = settings_for(
        "ffa", STEPS, sample_rate=RATE, rounds=ROUNDS, examples=PROBES, rank=4, epsilon=60.0
    )
    probing = Probing.of(system, settings)
    settings, backbone = probing.settings, probing.backbone
    train = []
    for number in range(PROBES):
        gradient = np.zeros(backbone.size)
        gradient[number] = STRENGTH * settings.record.max_grad_norm
        train.append(backbone.probe(f"{number}", gradient))
    nobody = [backbone.probe(f"none {number}", np.zeros(backbone.size)) for number in range(PROBES)]
    asks = [(number, 0) for number in range(1, ROUNDS + 1)]
    zero, one = (
        asked(Witness(probing.system, settings, [Person(t)], seed, RUN), asks)
        for t in (nobody, train)
    )
    counts = -np.stack([(b.real - a.real)[:PROBES] for a, b in zip(zero, one, strict=True)])
    counts = counts / probing.unit
    whole = np.rint(counts)
    evidence.at_most(
        "a difference from whole steps, in C", float(np.abs(counts - whole).max()), NEAR
    )
    evidence.at_most("steps that one example was in", float(whole.max()), STEPS)
    rows = [seen.row("record") for seen in one]
    named = {Noisy(0.0, row.get("sample_rate") or 0.0, row.get("steps") or 0) for row in rows}
    evidence.same("rate and steps of the rows", named, {Noisy(0.0, RATE, STEPS)})
    _test(evidence, np.clip(whole, 0, STEPS).astype(np.int64))
    return [
        evidence.finding(
            CHECK,
            f"{PROBES} examples with a coordinate each, {ROUNDS} rounds of {STEPS} steps, with and "
            "without them under the same noise: who was in which batch",
            f"each in each step with probability {RATE}, independently",
            "a rate 15 % off; batches of a fixed size; one batch for all steps",
        )
    ]


def _test(evidence: Evidence, counts: NDArray[np.int64]) -> None:
    """Against independent Binomial(steps, rate): [rounds, probes]."""
    from scipy.stats import binomtest

    total, trials = int(counts.sum()), counts.size * STEPS
    evidence.tested(
        f"{total} of {trials} at a rate of {RATE}", float(binomtest(total, trials, RATE).pvalue)
    )
    variance = STEPS * RATE * (1 - RATE)
    for what, sums, each in (
        ("size of batches", counts.sum(axis=1), counts.shape[1]),
        ("how often each", counts.sum(axis=0), counts.shape[0]),
    ):
        z = (sums - each * STEPS * RATE) / np.sqrt(each * variance)
        evidence.tested(f"spread of {what}", two_sided_chi2(float(np.square(z).sum()), z.size))
    once = int((counts == 1).sum())
    chance = 2 * RATE * (1 - RATE)
    evidence.tested("in one step of two", float(binomtest(once, counts.size, chance).pvalue))
