"""Record level: is the noise of each release as large, as Gaussian and as new as the ledger says?

Examples without a gradient leave nothing but noise in an update. Every attempt at every round is a
release of its own; kept parts (FedSA's B) are trained under the same noise.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from common.adapter.plan import SENT_PARTS, kept_parts
from common.privacy.dp_sgd import DPSettings, private_steps
from simulations.evidence.audit.evidence import Evidence, variance_caught
from simulations.evidence.audit.exact_record import Probing, settings_for
from simulations.evidence.audit.findings import Finding
from simulations.evidence.audit.noise_tests import require_entropy, test_noise, test_repeats
from simulations.evidence.audit.scale import Scale
from simulations.evidence.audit.system import System, stream
from simulations.evidence.audit.witness import Asks, Seen

CHECK = "record level, noise of every release"
ASKS: Asks = ((1, 0), (1, 1), (2, 0), (2, 1), (3, 0))
RANK = 32
DRAWS = 1500  # of 16-bit seeds, all are different with a probability of 4e-8


def noise_record(system: System, _scale: Scale, seed: int) -> list[Finding]:
    """χ² on size, shape, correlations, repeated values, randomness drawn."""
    evidence, count = Evidence(system.name), 0
    for sharing, steps in (("ffa", 3), ("fedsa", 1)):
        probing = Probing.of(system, settings_for(sharing, steps, rank=RANK))
        backbone = probing.backbone
        held = probing.settings.rounds.examples if sharing == "ffa" else 1
        nothing = [backbone.probe(f"{n}", np.zeros(backbone.size)) for n in range(held)]
        seen = probing.world(nothing, seed, ASKS)
        count += _test(evidence, probing, sharing, seen)
    different = len({_small_noise(system, seed, number) for number in range(DRAWS)})
    evidence.same(f"different noises of {DRAWS}", different, DRAWS)
    caught = variance_caught(count // 2, len(evidence.tests))
    evidence.figures |= {"values": count, "variance_caught": round(caught, 4)}
    return [
        evidence.finding(
            CHECK,
            f"{count:,} values of pure noise from {2 * len(ASKS)} releases, attempts repeated, "
            f"and {DRAWS:,} small ones",
            "independent N(0, σ²C²) for each step of the ledger's row, all of it drawn anew",
            f"a variance {caught:.0%} off in all, {_each(evidence, count):.0%} in one release; "
            f"correlation {_correlated(evidence, count):.2f} of two releases; seeds of 16 bits, "
            "and any seed shorter than the noise's own entropy if the device's bytes make it",
        )
    ]


def _each(evidence: Evidence, count: int) -> float:
    return variance_caught(count // (2 * len(ASKS)), len(evidence.tests))


def _correlated(evidence: Evidence, count: int) -> float:
    return _each(evidence, count) / math.sqrt(2)


def _test(evidence: Evidence, probing: Probing, sharing: str, seen: list[Seen]) -> int:
    """Add the tests of one way to share; how many values there were."""
    answered = [one for one in seen if not one.refused and one.row("record")]
    evidence.same(f"{sharing}: attempts answered", len(answered), len(ASKS))
    if not answered:
        return 2
    before, rows = np.zeros_like(answered[0].kept), []
    for one in answered:
        row = one.row("record")
        std = row["noise_multiplier"] * math.sqrt(row["steps"]) * probing.unit
        rows.append(np.concatenate([one.real, np.asarray(one.kept - before, np.float64)]) / std)
        before = one.kept
        levels = std * one.terms.levels / one.terms.clip
        drawn = sum(size for purpose, size in one.drawn.items() if "noise" in purpose)
        place = f"{sharing}, round {one.number}.{one.attempt}"
        require_entropy(evidence, place, drawn, one.sent.size, levels)
        test_repeats(evidence, place, one.sent, levels)
    z = np.stack(rows)
    test_noise(evidence, sharing, z, _blocks(probing, sharing))
    return int(z.size)


def _blocks(probing: Probing, sharing: str) -> list[slice]:
    """Each layer's place in what is sent, then in what is kept."""
    plan = probing.backbone.shared
    sent = [place for _, _, place in plan.entries(SENT_PARTS[sharing])]
    end = plan.size(SENT_PARTS[sharing])
    kept = [slice(end + p.start, end + p.stop) for _, _, p in plan.entries(kept_parts(sharing))]
    return sent + kept


def _small_noise(system: System, seed: int, number: int) -> bytes:
    """The noise of one step on two weights."""
    layer = torch.nn.Linear(1, 2, bias=False)
    layers = torch.nn.ModuleList([layer])
    with torch.no_grad():
        layer.weight.zero_()
    settings = DPSettings(1.0, 1.0, 1.0, 1, 1.0)
    optimizer = torch.optim.SGD(layers.parameters(), lr=1.0)
    random = stream(seed, f"small noise/{number}")
    private_steps(
        layers, optimizer, [], lambda _: [], lambda _: torch.zeros(()), settings, random,
        system.steps.private,
    )  # fmt: skip
    drawn: NDArray[np.float32] = layer.weight.detach().numpy()
    return drawn.tobytes()
