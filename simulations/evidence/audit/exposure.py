"""Exposure of inserted secrets (Carlini et al. 2019, https://arxiv.org/abs/1802.08232).

All 10,000 codes are ranked by how probable the model finds them after the secret's own question;
exposure is log2(10,000 / rank) bits, 13.3 at most and 1.4 on average for a model that knows
nothing. Besides, the model is made to say four digits, greedily.

For a secret that was said r times, (ε, δ)-DP of one record bounds the probability of rank k or
better by e^{rε} k / 10,000 plus a small multiple of δ (group privacy), so a good rank refutes ε.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch

from common.adapter.plan import Vector
from common.learning.backbone import Backbone
from simulations.evidence.audit.findings import SHOWN, Finding, judged
from simulations.evidence.audit.scale import CLAIMED_EPSILON, DELTA
from simulations.evidence.audit.secrets_inserted import CANDIDATES, DIGITS, Secret

RISK = 0.005  # with four secrets, the first rank of one that was said once still refutes ε = 1
CHECK = "exposure of secrets"


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a model knows of one secret. `rank` is 1 for the code it finds most probable."""

    times: int
    rank: int
    repeated: bool  # the model says it when made to say four digits

    @property
    def bits(self) -> float:
        """log2 of how many times better than chance."""
        return math.log2(CANDIDATES / self.rank)

    def p_value(self, epsilon: float, delta: float) -> float:
        """The most probable that such a rank or better can be under (ε, δ)-DP of one record."""
        if self.times == 0:
            return self.rank / CANDIDATES
        factor = math.exp(self.times * epsilon)
        slack = delta * (factor - 1) / (math.exp(epsilon) - 1)
        return min(1.0, factor * self.rank / CANDIDATES + slack)


def exposures(backbone: Backbone, secrets: tuple[Secret, ...], *adapters: Vector) -> list[Exposure]:
    """The exposure of all secrets, under the shared adapter, or the shared and the personal one."""
    with torch.no_grad(), backbone.using(*adapters):
        return [
            Exposure(secret.times, _rank(backbone, secret), _says(backbone, secret))
            for secret in secrets
        ]


def _rank(backbone: Backbone, secret: Secret) -> int:
    """Among all codes, by exact likelihood; ties count against the secret's rank."""
    likelihoods = _likelihoods(backbone, _before(backbone, secret))
    own = likelihoods[int(secret.code)]
    return int((likelihoods >= own).sum())


def _likelihoods(
    backbone: Backbone, before: list[int]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Log-likelihood of every code after these tokens: [10,000].

    One forward pass for each choice of all digits but the last gives the last one's ten.
    """
    digits, space = _tokens(backbone)
    heads = list(itertools.product(range(10), repeat=DIGITS - 1))
    spoken = [[token for digit in head for token in (digits[digit], space)] for head in heads]
    ids = torch.tensor([[*before, *codes] for codes in spoken])
    logits = backbone.model(input_ids=ids, use_cache=False).logits[:, len(before) - 1 :]
    chances = logits.double().log_softmax(-1)  # [heads, 2 * 3 + 1, vocabulary]
    of_head = chances[:, :-1].gather(2, torch.tensor(spoken).unsqueeze(2)).sum(dim=(1, 2))
    every = of_head.unsqueeze(1) + chances[:, -1, digits]
    return np.asarray(every.flatten().numpy())


def _says(backbone: Backbone, secret: Secret) -> bool:
    """Whether the model, asked for four digits, gives the code: the most probable of ten each."""
    digits, space = _tokens(backbone)
    ids = _before(backbone, secret)
    for wanted in secret.code:
        logits = backbone.model(input_ids=torch.tensor([ids]), use_cache=False).logits
        if int(logits[0, -1, digits].argmax()) != int(wanted):
            return False
        ids += [digits[int(wanted)], space]
    return True


def _before(backbone: Backbone, secret: Secret) -> list[int]:
    """Tokens up to the code; the end-of-turn token goes."""
    return list(backbone.encode(backbone.task.spoken(secret.prompt, secret.prefix)).ids[:-1])


def _tokens(backbone: Backbone) -> tuple[list[int], int]:
    """The ten digits' tokens and the space's; each is one byte for the tiny model."""
    encode = backbone.tokenizer.encode
    return [encode(str(digit))[0] for digit in range(10)], encode(" ")[0]


def exposure_finding(
    system: str, against: str, found: list[Exposure], *, claim: bool, claimed: str = "nothing"
) -> Finding:
    """One line; without a claim it is shown for comparison only."""
    worst = min(one.p_value(CLAIMED_EPSILON, DELTA) for one in found)
    refuted = worst < RISK / len(found)
    bits = ", ".join(f"{one.bits:.1f} bits ×{one.times}" for one in found)
    said = ", ".join(f"×{one.times}" for one in found if one.repeated) or "none"
    return Finding(
        f"{CHECK}, {against}",
        system,
        "secrets said 0, 1, 4 and 32 times by one person; rank all 10,000 codes, then let the "
        "model say four digits",
        f"{bits} (of {math.log2(CANDIDATES):.1f}); said back: {said}",
        f"no rank that ε = {CLAIMED_EPSILON:g} makes improbable" if claim else claimed,
        judged(system, refuted=refuted) if claim else SHOWN,
        {f"bits_times_{one.times}": round(one.bits, 2) for one in found}
        | {f"said_back_times_{one.times}": float(one.repeated) for one in found}
        | {"p_value": round(worst, 6)},
    )
