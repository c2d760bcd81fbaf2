"""What a whole round costs its members and its server, with a tenth of the members lost.

They are lost after they shared, which costs the server most: it takes every mask out that others
added towards them. Every leg of every member is run. The members live in a process of their own,
so that memory is the server's alone, and what they sum is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from common.console.say import say_aside
from common.secagg import Aggregator, RoundTerms, from_ring
from simulations.evidence.benchmarks.secagg_member import streams_s
from simulations.evidence.benchmarks.secagg_round import (
    ADVERTISE,
    BINDING,
    CONFIRM,
    DATA,
    LEGS,
    MASK,
    REVEAL,
    SAMPLE,
    SHARE,
    Crowd,
    levels_of_update,
    terms_for,
)
from simulations.evidence.benchmarks.timing import Figures, Row, in_own_process, memory

T = TypeVar("T")
LOST = 0.1
BATCH = 100  # members in one exchange with their process
Ask = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class ServerCase:
    """A whole round."""

    members: int
    dimension: int

    def __str__(self) -> str:
        return f"{self.dimension:,} parameters, {self.members:,} members"


def row(case: ServerCase) -> Row:
    """Measure one round, in a fresh process."""
    terms = terms_for(case.members, case.dimension, LOST)
    ours = in_own_process(measure, terms)
    masks = int(ours["masks_count"])
    limit_s = streams_s(case.dimension, masks)
    return Row(
        case=f"{case}, {int(LOST * case.members):,} lost after sharing, "
        f"k = {terms.neighbours}, t = {terms.threshold}",
        data=f"{DATA}; every leg of every member run once, the sum checked; "
        f"share and reveal: mean of {SAMPLE} members that check every signature themselves",
        ours=ours,
        peers={},
        limit={"server_unmask_s": limit_s, "masks_count": masks},
        ratios={"unmask_time_vs_limit": ours["server_unmask_s"] / limit_s},
    )


def measure(terms: RoundTerms) -> Figures:
    """One round's figures: means over members, sums for the server."""
    with members_of(terms) as ask:
        driven = Driven(terms, ask)
        peak = memory(driven.run)
        member_s = ask("seconds")
    driven.check()
    return {
        **{f"member_{leg}_s": member_s[leg] for leg in LEGS},
        "member_up_bytes": driven.up_bytes / terms.cohort,
        "member_down_bytes": driven.down_bytes / terms.cohort,
        **{f"server_{step}_s": spent for step, spent in driven.seconds.items()},
        "server_peak_extra_mb": peak["peak_extra_mb"],
        "masks_count": driven.masks,
    }


@dataclass
class Driven:
    """One round from the server's side; `ask` reaches the members."""

    terms: RoundTerms
    ask: Ask
    up_bytes: int = 0
    down_bytes: int = 0
    masks: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    survivors: tuple[int, ...] = ()
    total: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def run(self) -> None:
        """All five legs."""
        server = Aggregator(
            self.terms, Ed25519PublicKey.from_public_bytes(self.ask("authority_key"))
        )
        server.bind(BINDING)
        adverts = self._leg(ADVERTISE, dict.fromkeys(range(self.terms.cohort), b""))
        roster = self._timed("roster", server.roster, adverts)
        inboxes = self._timed("inboxes", server.inboxes, self._leg(SHARE, roster))
        lost = self._lost()
        say_aside(f"  {MASK}")
        for member, inbox in inboxes.items():
            if member not in lost:
                [masked] = self._leg(MASK, {member: inbox}).values()
                self._timed("sum", server.receive, member, masked)
        survivors = self._timed("sum", server.survivors, {})
        confirmed = self._leg(CONFIRM, survivors)
        confirmations = self._timed("confirmations", server.confirmations, confirmed)
        revealed = self._leg(REVEAL, confirmations)
        self.total = from_ring(self._timed("unmask", server.unmask, revealed), self.terms.bits)
        self.survivors = tuple(survivors)
        self.masks = len(survivors) + _towards(lost, server._holders)

    def check(self) -> None:
        """The sum is that of the survivors."""
        assert len(self.survivors) == self.terms.cohort - len(self._lost())
        ints = levels_of_update(self.terms)
        expected = np.zeros(self.terms.dimension, dtype=np.int64)
        for member in self.survivors:
            expected += np.roll(ints, member)
        assert np.array_equal(self.total, expected)

    def _lost(self) -> set[int]:
        count = int(LOST * self.terms.cohort)
        chance = np.random.default_rng(0)
        return set(chance.choice(self.terms.cohort, count, replace=False).tolist())

    def _leg(self, leg: str, sent: Mapping[int, bytes]) -> dict[int, bytes]:
        if leg != MASK:
            say_aside(f"  {leg}")
        answers: dict[int, bytes] = {}
        for batch in _batches(sent):
            answers |= self.ask("leg", leg, batch)
        self.down_bytes += sum(map(len, sent.values()))
        self.up_bytes += sum(map(len, answers.values()))
        return answers

    def _timed(self, step: str, task: Callable[..., T], *arguments: Any) -> T:
        start = perf_counter()
        done = task(*arguments)
        self.seconds[step] = self.seconds.get(step, 0.0) + perf_counter() - start
        return done


def _towards(lost: set[int], holders: Mapping[int, Collection[int]]) -> int:
    """How many masks the survivors added towards those who were lost."""
    pairs = {
        (holder, chooser) if holder in lost else (chooser, holder)
        for chooser, chosen in holders.items()
        for holder in chosen
        if (holder in lost) != (chooser in lost)
    }
    return len(pairs)


@contextmanager
def members_of(terms: RoundTerms) -> Iterator[Ask]:
    """A process with all members, and what calls a method of their `Crowd`."""
    start = get_context("spawn")
    with ProcessPoolExecutor(1, start, initializer=_enter, initargs=(terms,)) as pool:
        yield lambda name, *arguments: pool.submit(_call, name, *arguments).result()


_here: list[Crowd] = []  # in the members' process


def _enter(terms: RoundTerms) -> None:
    _here.append(Crowd(terms))


def _call(name: str, *arguments: Any) -> Any:
    return getattr(_here[-1], name)(*arguments)


def _batches(sent: Mapping[int, bytes]) -> Iterator[dict[int, bytes]]:
    members = list(sent)
    for start in range(0, len(members), BATCH):
        yield {member: sent[member] for member in members[start : start + BATCH]}
