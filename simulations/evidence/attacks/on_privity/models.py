"""Against Privity: another model for each member.

The published adapter's digest enters every mask and every signature over the survivors, so the
masks of members that were given different ones do not cancel, and nobody reveals.
"""

from __future__ import annotations

import hashlib

import numpy as np

from common.secagg import Participant, dequantize, from_ring
from common.secagg.messages import decode_confirmation, encode_confirmations, encode_survivors
from simulations.evidence.attacks import networks
from simulations.evidence.attacks.measure import (
    AttackOutcome,
    Guess,
    RefusalsSeen,
    Update,
    reconstruction,
)
from simulations.evidence.attacks.on_privity.attacker import Attacker
from simulations.evidence.attacks.on_privity.round import BITS, MEMBERS, TERMS, VICTIM, PrivityRound


def different_models(kind: type[Participant] = Participant) -> AttackOutcome:
    """Everybody but the victim is given a network whose hidden units never fire.

    The server sums what it gets and is even given every self-mask seed.
    """
    run = PrivityRound(kind=kind, update=_update, binding=_binding).until(3)
    attacker = Attacker.of(run, ())
    attacker.seeds = dict(run.seeds)
    total = sum((attacker.left(m, ()) for m in MEMBERS), np.zeros(TERMS.dimension, np.uint32))
    refusals = _ask_for_shares(run, attacker)
    clear = from_ring(total & np.uint32(2**BITS - 1), BITS)
    guess = dequantize(clear, TERMS.clip, TERMS.levels)
    return reconstruction(_update(VICTIM), guess, str(refusals))


def _ask_for_shares(run: PrivityRound, attacker: Attacker) -> RefusalsSeen:
    """Each member signs under its own adapter; then all are shown all signatures."""
    refusals, signed = RefusalsSeen(), {}
    for member, who in run.people.items():
        bound = attacker.bound(member)
        answer = who.confirm(encode_survivors(bound, MEMBERS))
        signed[member] = decode_confirmation(bound, member, answer)
    for member, who in run.people.items():
        refusals.ask(who.reveal, encode_confirmations(attacker.bound(member), signed))
    return refusals


def _given(member: int) -> Guess:
    return networks.model(dead=member != VICTIM)


def _update(member: int) -> Update:
    return networks.weight_update(member, _given(member))


def _binding(member: int) -> bytes:
    return hashlib.sha256(_given(member).tobytes()).digest()
