"""A member's cost of one masked update: the product, Flower's SecAgg+, and the bare cipher.

Ours is `quantize_to_ring` and `Participant.mask` in a real round; Flower's is the function its own
client mod calls, in a round set up by that mod. Both start from a float32 vector and end with
bytes ready to send, key agreement and opening of the shares received included. The limit is the
same number of AES-256-CTR streams, made and added in blocks of the same size.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from common.privacy.noise import discrete_gaussian
from common.secagg import Aggregator, Participant, from_ring, levels_with_noise, messages, pack
from common.secagg.quantize import BLOCK, quantize_to_ring
from simulations.evidence.benchmarks.flower_peer import FlowerMember
from simulations.evidence.benchmarks.secagg_round import (
    ADVERTISE,
    BINDING,
    DATA,
    SHARE,
    Crowd,
    Update,
    synthetic_update,
    terms_for,
)
from simulations.evidence.benchmarks.timing import (
    Figures,
    Row,
    in_own_process,
    interleaved,
    memory,
    seconds,
)

BLOCK_BYTES = 4 * BLOCK
FLOAT32_BYTES = 4
OPEN = 64  # streams at a time
NOISE = 1.0  # standard deviation of the sum's noise, in bounds of one member's update


@dataclass(frozen=True, slots=True)
class MemberCase:
    """A round whose members and lost share fix how many masks a member adds."""

    members: int
    dimension: int
    losses: float = 0.05
    repeats: int = 7

    def __str__(self) -> str:
        return f"{self.dimension:,} parameters, {self.members} members"


def row(case: MemberCase) -> Row:
    """Measure one case; the sum is unmasked afterwards where nine members make that quick."""
    update, cohort = synthetic_update(case.dimension), StoppedRound(case)
    peer, masks = FlowerMember(update, cohort.partners), cohort.partners + 1
    tasks = {
        "ours": lambda: cohort.timed(update),
        "flower": peer.timed,
        "limit": lambda: {"mask_s": streams_s(case.dimension, masks)},
    }
    medians = interleaved(tasks, case.repeats)
    if case.members < 10:
        _check_sum(cohort, update)
    ours = medians["ours"] | in_own_process(our_memory, case)
    flower = medians["flower"] | in_own_process(flower_memory, case.dimension, cohort.partners)
    limit = medians["limit"]
    terms = cohort.terms
    return Row(
        case=f"{case}, k = {terms.neighbours}, t = {terms.threshold}, {cohort.partners} neighbours",
        data=f"{DATA}; noise is drawn with the guarantee for a person only and not in total_s",
        ours=ours,
        peers={"flower": flower},
        limit=limit | {"masks_count": masks, "block_bytes": BLOCK_BYTES, "threads_count": 1},
        ratios={
            "time_vs_limit": ours["mask_s"] / limit["mask_s"],
            "time_with_packing_vs_limit": (ours["mask_s"] + ours["pack_s"]) / limit["mask_s"],
            "speed_vs_flower": flower["total_s"] / ours["total_s"],
            "mask_speed_vs_flower": flower["mask_s"] / ours["mask_s"],
            "upload_vs_float32": ours["upload_bytes"] / (FLOAT32_BYTES * case.dimension),
            "flower_upload_vs_float32": flower["upload_bytes"] / (FLOAT32_BYTES * case.dimension),
        },
    )


class StoppedRound:
    """A real round, stopped where each member is about to mask its update."""

    def __init__(self, case: MemberCase) -> None:
        self.terms = terms_for(case.members, case.dimension, case.losses)
        self._crowd = Crowd(self.terms, sample=1)
        self._server = Aggregator(self.terms, self._crowd.authority)
        self._server.bind(BINDING)
        adverts = self._crowd.leg(ADVERTISE, dict.fromkeys(range(case.members), b""))
        self._shares = self._crowd.leg(SHARE, self._server.roster(adverts))
        self._inboxes = self._server.inboxes(self._shares)
        self._saved = {member: self._crowd.saved(member) for member in self._inboxes}
        self._chosen = case.members // 2  # some of its neighbours come before it, some after

    @property
    def partners(self) -> int:
        """How many other members share a mask with the timed one."""
        digest, member = self.terms.digest(), self._chosen
        holders = messages.decode_shares(digest, member, self._shares[member]).sealed
        choosers = messages.decode_inbox(digest, self._inboxes[member]).sealed
        return len(holders.keys() | choosers.keys())

    def participant(self) -> Participant:
        """The timed member before it masks."""
        return self._crowd.loaded(self._chosen, self._saved[self._chosen])

    def ring(self, update: Update) -> NDArray[np.uint32]:
        """What is summed for this update."""
        terms = self.terms
        return quantize_to_ring(update, terms.clip, terms.levels, terms.bits)[0]

    def masked(self, who: Participant, ring: NDArray[np.uint32]) -> bytes:
        """The timed member's masked input, ready to send."""
        return who.mask(self._inboxes[self._chosen], ring, BINDING)

    def timed(self, update: Update) -> Figures:
        """The product's path. Packing is inside `mask` and is timed once more by itself."""
        who = self.participant()
        start = perf_counter()
        ring = self.ring(update)
        quantised = perf_counter()
        message = self.masked(who, ring)
        end = perf_counter()
        pack_s = seconds(pack, ring, self.terms.bits)
        return {
            "quantise_s": quantised - start,
            "noise_s": seconds(discrete_gaussian, update.size, self._noise(), os.urandom),
            "mask_s": end - quantised - pack_s,
            "pack_s": pack_s,
            "total_s": end - start,
            "upload_bytes": len(message),
        }

    def _noise(self) -> float:
        """A member's share of the noise, in levels, when the honest survivors carry it all."""
        terms = self.terms
        share = float(NOISE / np.sqrt(terms.least - terms.corrupt))
        return share * levels_with_noise(terms.cohort, terms.bits, terms.dimension, share)

    def sum_of(self, updates: Callable[[int], Update]) -> NDArray[np.int64]:
        """Finish the round with `updates(member)`: the unmasked sum of integers, [dimension]."""
        members = {m: self._crowd.loaded(m, saved) for m, saved in self._saved.items()}
        for member, who in members.items():
            ring = self.ring(updates(member))
            self._server.receive(member, who.mask(self._inboxes[member], ring, BINDING))
        survivors = self._server.survivors({})
        signed = {m: who.confirm(survivors[m]) for m, who in members.items()}
        confirmations = self._server.confirmations(signed)
        revealed = {m: who.reveal(confirmations[m]) for m, who in members.items()}
        return from_ring(self._server.unmask(revealed), self.terms.bits)


def _check_sum(cohort: StoppedRound, update: Update) -> None:
    expected = cohort.terms.cohort * from_ring(cohort.ring(update), cohort.terms.bits)
    assert np.array_equal(cohort.sum_of(lambda _: update), expected)


def streams_s(dimension: int, masks: int) -> float:
    """Seconds for every key stream made into one reused block and added, and nothing else."""
    vector = np.ones(dimension, dtype=np.uint32)  # not zeros: its pages must exist beforehand
    return seconds(stream_and_add, vector, [os.urandom(32) for _ in range(masks)])


def stream_and_add(vector: NDArray[np.uint32], keys: list[bytes]) -> None:
    """A block of the vector is done with many streams before the next."""
    zeros, made = bytes(BLOCK_BYTES), bytearray(BLOCK_BYTES)
    words = np.frombuffer(made, dtype="<u4")
    for first in range(0, len(keys), OPEN):
        streams = [_stream(key) for key in keys[first : first + OPEN]]
        for start in range(0, vector.size, BLOCK):
            part = vector[start : start + BLOCK]
            for stream in streams:
                stream.update_into(zeros[: part.nbytes], made)
                np.add(part, words[: part.size], out=part)


def _stream(key: bytes) -> CipherContext:
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()


def our_memory(case: MemberCase) -> Figures:
    """Peak memory above what is held before the update is quantised."""
    update, cohort = synthetic_update(case.dimension), StoppedRound(case)
    who = cohort.participant()
    peak = memory(lambda: cohort.masked(who, cohort.ring(update)))
    return {"peak_extra_mb": peak["peak_extra_mb"]}


def flower_memory(dimension: int, neighbours: int) -> Figures:
    """The peak memory of Flower's masked update."""
    peer = FlowerMember(synthetic_update(dimension), neighbours)
    return {"peak_extra_mb": memory(peer.masked)["peak_extra_mb"]}
