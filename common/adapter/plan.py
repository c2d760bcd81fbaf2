"""Which weights carry an adapter, in what shape and in what order they are flattened.

FFA-LoRA (arXiv 2403.12313): A is frozen and derived from the published seed, only B is trained and
sent. FedSA-LoRA (arXiv 2410.01463): A is sent, B stays. LoRA: both are sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

BOTH = ("A", "B")
SENT_PARTS = {"ffa": ("B",), "fedsa": ("A",), "lora": ("A", "B")}
TRAINED_PARTS = {"ffa": ("B",), "fedsa": ("A", "B"), "lora": ("A", "B")}


def kept_parts(sharing: str) -> tuple[str, ...]:
    """Parts that are trained but not sent."""
    return tuple(part for part in TRAINED_PARTS[sharing] if part not in SENT_PARTS[sharing])


@dataclass(frozen=True, slots=True)
class Site:
    """One adapted linear layer: its module path in the base model and its dimensions."""

    module: str
    d_in: int
    d_out: int


@dataclass(frozen=True, slots=True)
class HeadSite(Site):
    """A head that the model does not have: its base weight is zero, its rank its own.

    As wide as its input, A is the identity, and B is then the head's whole weight.
    """

    rank: int


@dataclass(frozen=True, slots=True)
class AdapterPlan:
    """Everything that fixes an adapter's shape. Sites are in the order they are flattened."""

    model: str
    sites: tuple[Site, ...]
    rank: int
    alpha: float
    seed: int
    sharing: str

    @property
    def scaling(self) -> float:
        """PEFT's factor on B·A·x."""
        return self.alpha / self.rank

    def shape(self, site: Site, part: str) -> tuple[int, int]:
        """`A` is [rank, d_in], `B` is [d_out, rank]."""
        rank = self.rank_of(site)
        return (rank, site.d_in) if part == "A" else (site.d_out, rank)

    def rank_of(self, site: Site) -> int:
        """The adapter's, but for a head, which has its own."""
        return site.rank if isinstance(site, HeadSite) else self.rank

    @property
    def head(self) -> HeadSite | None:
        """The head among the sites, if there is one."""
        return next((site for site in self.sites if isinstance(site, HeadSite)), None)

    def entries(self, parts: tuple[str, ...]) -> Iterator[tuple[Site, str, slice]]:
        """Site, part and place in the flat vector, in order."""
        start = 0
        for site in self.sites:
            for part in parts:
                rows, columns = self.shape(site, part)
                yield site, part, slice(start, start + rows * columns)
                start += rows * columns

    def size(self, parts: tuple[str, ...]) -> int:
        """Number of scalars in these parts."""
        return sum(place.stop - place.start for _, _, place in self.entries(parts))

    @property
    def sent(self) -> tuple[str, ...]:
        """The parts that a device sends."""
        return SENT_PARTS[self.sharing]

    @property
    def dimension(self) -> int:
        """Length of the shared vector."""
        return self.size(self.sent)

    def initial(self, parts: tuple[str, ...]) -> Vector:
        """The published start: seeded A, zero B, flattened."""
        vector = np.zeros(self.size(parts), dtype=np.float32)
        for site, part, place in self.entries(parts):
            if part == "A":
                vector[place] = seeded_a(self.seed, site, self.rank_of(site)).ravel()
        return vector

    def digest(self) -> str:
        """SHA-256 of everything above, hex."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


def seeded_a(seed: int, site: Site, rank: int) -> Vector:
    """A from the published seed: uniform with unit expected row norm, the same on any machine.

    Integers from SHAKE-256 scaled by exact float operations: no library's generator is involved
    whose stream could change between versions. Shape [rank, d_in]. A head as wide as its input
    has the identity: nothing of the input is lost.
    """
    if isinstance(site, HeadSite) and rank == site.d_in:
        return np.eye(rank, dtype=np.float32)
    stream = hashlib.shake_256(f"privity/A/{seed}/{site.module}/{rank}".encode())
    integers = np.frombuffer(stream.digest(rank * site.d_in * 4), dtype="<u4")
    uniform = integers.astype(np.float64) / 2**31 - 1.0  # [-1, 1), variance 1/3
    scaled: Vector = (uniform * np.sqrt(3.0 / site.d_in)).astype(np.float32)
    return scaled.reshape(rank, site.d_in)
