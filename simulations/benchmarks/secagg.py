"""A member's cost of one masked update: the product, Flower's SecAgg+, and the bare cipher.

Ours is `quantize` and `Participant.mask` in a real round of eight; Flower's is the function its
own client mod calls, in a round of eight set up by that mod. Both start from a float32 vector and
end with bytes ready to send, key agreement and opening of the neighbours' shares included. The
limit is the same number of AES-256-CTR streams, made and added in blocks of the same size.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import perf_counter

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from common.secagg import (
    Aggregator,
    Participant,
    RoundTerms,
    certify,
    from_ring,
    levels_for,
    pack,
    quantize,
    to_ring,
)
from simulations.benchmarks.flower_peer import FlowerMember
from simulations.benchmarks.secagg_round import (
    DEFAULTS,
    MEMBERS,
    NEIGHBOURS,
    THRESHOLD,
    TIMED,
    Update,
    synthetic_update,
)
from simulations.benchmarks.timing import Figures, Row, in_own_process, interleaved, memory, seconds

MASKS = NEIGHBOURS + 1  # one with each neighbour, and the self mask
BLOCK_BYTES = 64 * 1024
DATA = "synthetic: normal, deviation 0.01"
FLOAT32_BYTES = 4
CASES = {"1M parameters": 1_000_000, "10M parameters": 10_000_000}
QUICK_CASES = {"100k parameters": 100_000}
REPEATS, QUICK_REPEATS = 7, 3


def rows(quick: bool) -> list[Row]:
    """One row for each size."""
    cases, repeats = (QUICK_CASES, QUICK_REPEATS) if quick else (CASES, REPEATS)
    return [row(case, dimension, repeats) for case, dimension in cases.items()]


def row(case: str, dimension: int, repeats: int) -> Row:
    """Measure one size; the sum is unmasked afterwards, so that what was timed is known right."""
    update = synthetic_update(dimension)
    cohort, peer = Cohort(dimension), FlowerMember(update)
    tasks = {"ours": lambda: cohort.timed(update), "flower": peer.timed}
    medians = interleaved(tasks | {"limit": lambda: _limit(dimension)}, repeats)
    _check_sum(cohort, update)
    ours = medians["ours"] | in_own_process(our_memory, dimension)
    flower = medians["flower"] | in_own_process(flower_memory, dimension)
    limit = medians["limit"]
    return Row(
        case=f"{case}, {MEMBERS} members, {NEIGHBOURS} neighbours",
        data=DATA,
        ours=ours,
        peers={"flower": flower},
        limit=limit | {"masks_count": MASKS, "block_bytes": BLOCK_BYTES, "threads_count": 1},
        ratios={
            "speed_vs_flower": flower["total_s"] / ours["total_s"],
            "mask_speed_vs_flower": flower["mask_s"] / ours["mask_s"],
            "time_vs_limit": ours["mask_s"] / limit["mask_s"],
            "upload_vs_float32": ours["upload_bytes"] / (FLOAT32_BYTES * dimension),
            "flower_upload_vs_float32": flower["upload_bytes"] / (FLOAT32_BYTES * dimension),
        },
    )


class Cohort:
    """A real round of eight, stopped where each member is about to mask its update."""

    def __init__(self, dimension: int) -> None:
        self.terms = _terms(dimension)
        authority = Ed25519PrivateKey.generate()
        self._authority = authority.public_key()
        self._devices = {member: Ed25519PrivateKey.generate() for member in range(MEMBERS)}
        self._certificates = {
            member: certify(authority, member, device.public_key())
            for member, device in self._devices.items()
        }
        self._server = Aggregator(self.terms, self._authority)
        self._share()

    def _share(self) -> None:
        members = {
            m: Participant(self.terms, m, device, self._certificates[m], self._authority)
            for m, device in self._devices.items()
        }
        roster = self._server.roster({m: who.advertise() for m, who in members.items()})
        shares = {m: who.share(roster[m]) for m, who in members.items()}
        self._inboxes = self._server.inboxes(shares)
        self._saved = {m: who.save() for m, who in members.items()}

    def participant(self, member: int) -> Participant:
        """The member before it masks. Repeats reuse its keys, which only a benchmark may do."""
        device, certificate = self._devices[member], self._certificates[member]
        return Participant.load(self._saved[member], device, certificate, self._authority)

    def integers(self, update: Update) -> NDArray[np.int32]:
        """What is summed for this update."""
        return quantize(update, self.terms.clip, self.terms.levels)[0]

    def masked(self, who: Participant, member: int, ring: NDArray[np.uint32]) -> bytes:
        """The masked input, ready to send."""
        return who.mask(self._inboxes[member], ring)

    def timed(self, update: Update) -> Figures:
        """The product's path. Packing is inside `mask` and is timed once more by itself."""
        who = self.participant(TIMED)
        start = perf_counter()
        ring = to_ring(self.integers(update), self.terms.bits)
        quantised = perf_counter()
        message = self.masked(who, TIMED, ring)
        end = perf_counter()
        pack_s = seconds(pack, ring.copy(), self.terms.bits)  # just written, as it is in `mask`
        return {
            "quantise_s": quantised - start,
            "mask_s": end - quantised - pack_s,
            "pack_s": pack_s,
            "total_s": end - start,
            "upload_bytes": len(message),
        }

    def sum_of(self, updates: Callable[[int], Update]) -> NDArray[np.int64]:
        """Finish the round with `updates(member)`: the unmasked sum of integers, [dimension]."""
        members = {member: self.participant(member) for member in self._devices}
        for member, who in members.items():
            ring = to_ring(self.integers(updates(member)), self.terms.bits)
            self._server.receive(member, self.masked(who, member, ring))
        survivors = self._server.survivors({})
        signed = {m: who.confirm(survivors[m]) for m, who in members.items()}
        confirmations = self._server.confirmations(signed)
        revealed = {m: who.reveal(confirmations[m]) for m, who in members.items()}
        return from_ring(self._server.unmask(revealed), self.terms.bits)


def _terms(dimension: int) -> RoundTerms:
    return RoundTerms(
        run="benchmark",
        round=0,
        attempt=0,
        adapter="00" * 32,
        seed=0,
        dimension=dimension,
        clip=DEFAULTS.update_range,
        bits=DEFAULTS.modulus_bits,
        levels=levels_for(MEMBERS, DEFAULTS.modulus_bits),
        cohort=MEMBERS,
        neighbours=NEIGHBOURS,
        threshold=THRESHOLD,
        colluders=2 * THRESHOLD - NEIGHBOURS - 1,
        training=DEFAULTS.digest(),
    )


def _check_sum(cohort: Cohort, update: Update) -> None:
    expected = MEMBERS * cohort.integers(update).astype(np.int64)
    assert np.array_equal(cohort.sum_of(lambda _: update), expected)


def _limit(dimension: int) -> Figures:
    """Every key stream made into one reused block and added to the vector, and nothing else."""
    vector = np.ones(dimension, dtype=np.uint32)  # not zeros: its pages must exist beforehand
    keys = [os.urandom(32) for _ in range(MASKS)]
    return {"mask_s": seconds(_stream_and_add, vector, keys)}


def _stream_and_add(vector: NDArray[np.uint32], keys: list[bytes]) -> None:
    zeros, block = bytes(BLOCK_BYTES), bytearray(BLOCK_BYTES)
    words = np.frombuffer(block, dtype="<u4")
    for key in keys:
        stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        for start in range(0, vector.size, words.size):
            part = vector[start : start + words.size]
            stream.update_into(zeros[: part.nbytes], block)
            np.add(part, words[: part.size], out=part)


def our_memory(dimension: int) -> Figures:
    """Peak memory above what is held before the update is quantised."""
    update, cohort = synthetic_update(dimension), Cohort(dimension)
    who = cohort.participant(TIMED)

    def path() -> None:
        ring = to_ring(cohort.integers(update), cohort.terms.bits)
        cohort.masked(who, TIMED, ring)

    return {"peak_extra_mb": memory(path)["peak_extra_mb"]}


def flower_memory(dimension: int) -> Figures:
    """The same of Flower's."""
    peer = FlowerMember(synthetic_update(dimension))
    return {"peak_extra_mb": memory(peer.masked)["peak_extra_mb"]}
