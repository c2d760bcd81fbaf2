"""What a round is about. A digest of it enters every key, signature and message of the round.

The digest T of the terms covers all settings. The published adapter comes later, as `binding`, so
that keys and shares can travel before it exists; from then on T1 covers both. Members who were
handed different settings or adapters derive different masks, so the server gets noise instead of
one member's update (model inconsistency, https://arxiv.org/abs/2111.07380).
"""

import hashlib
import math
import re
import struct
from dataclasses import dataclass

from common.errors import DecodeError, ProtocolError
from common.secagg.noise_room import LEAST_NOISE, MOST_NOISE, wrap_margin
from common.secagg.wire import U64_MAX, Reader, u8, u32, u64

VERSION = 3
MODULUS_BITS = (16, 24, 32)
BINDING_BYTES = HEAD_BYTES = 32
_TERMS = b"privity/secagg/v2/terms\x00"
_BOUND = b"privity/secagg/v2/bound\x00"
_RUN = re.compile(r"[!-~]{1,128}")
_HEX = re.compile(r"[0-9a-f]{1,128}")


@dataclass(frozen=True, slots=True)
class RoundTerms:
    """The public terms of one attempt at one round.

    Args:
        run: Printable ASCII id of the federation run, 1 to 128 characters, no spaces.
        round: Number of the round, from 0.
        attempt: Number of the attempt at this round, from 0.
        seed: Published seed from which A is derived.
        dimension: Coordinates in the vector that is summed.
        clip: What the integer `levels` stands for, in units of the parameter.
        bits: Modulus bits b; sums are taken mod 2^b.
        levels: Each member's vector lies in [-levels, levels] before its noise.
        noise: Standard deviation, in levels, of each member's own discrete Gaussian share; 0 for
            none, else 2 to 2^26.
        cohort: Most members that may take part (n).
        least: Fewest members in the roster, among the sharers, the survivors and the signers (s).
        corrupt: Most members of the roster that collude with the server (g).
        neighbours: Holders that each member chooses for the shares of its secrets (k).
        threshold: Holders whose shares rebuild a secret (t).
        colluders: Most of one member's holders that collude with the server (c).
        training: Hex digest of the training settings sent with the round.
        log_size: Entries of the enrolment log that all members must know; 0 where none is kept.
        log_head: Hex of the hash of those entries; empty where none is kept.
    """

    run: str
    round: int
    attempt: int
    seed: int
    dimension: int
    clip: float
    bits: int
    levels: int
    noise: float
    cohort: int
    least: int
    corrupt: int
    neighbours: int
    threshold: int
    colluders: int
    training: str
    log_size: int = 0
    log_head: str = ""

    def validate(self) -> None:
        """Check that the values are in range and do not contradict each other.

        Raises:
            ProtocolError: They do; the message names the value.
        """
        self._validate_names()
        self._validate_cohort()
        self._validate_threshold()
        self._validate_vector()
        self._validate_modulus()

    def _validate_names(self) -> None:
        _require(_RUN.fullmatch(self.run), f"Run id {self.run!r} is not 1-128 printable ASCII.")
        _require(_HEX.fullmatch(self.training), f"Training {self.training!r} is not a hex digest.")
        for name in ("round", "attempt", "seed", "log_size"):
            value = getattr(self, name)
            _require(0 <= value <= U64_MAX, f"{name} {value} is outside [0, 2^64).")
        wanted = 2 * HEAD_BYTES if self.log_size else 0
        _require(
            len(self.log_head) == wanted and (not wanted or _HEX.fullmatch(self.log_head)),
            f"The head {self.log_head!r} is not that of a log of {self.log_size} entries.",
        )

    def _validate_cohort(self) -> None:
        n, s, g = self.cohort, self.least, self.corrupt
        _require(2 <= n < 2**32, f"A cohort of {n} is not in [2, 2^32).")
        _require(s <= n, f"At least {s} members do not fit a cohort of {n}.")
        _require(g >= 0, f"{g} corrupt members are fewer than none.")
        _require(
            2 * s > n + g,
            f"With {s} of {n} members, {g} of them corrupt, two lists can both be signed.",
            "2 x least must exceed cohort + corrupt.",
        )

    def _validate_threshold(self) -> None:
        k, t, c = self.neighbours, self.threshold, self.colluders
        _require(k <= self.cohort - 1, f"{k} holders do not fit a cohort of {self.cohort}.")
        _require(1 <= t <= k, f"Threshold {t} is not in [1, {k}], the holders.")
        _require(t <= self.least - 1, f"Threshold {t} does not fit {self.least} members.")
        _require(
            0 <= c <= min(self.corrupt, k),
            f"{c} colluders among {k} holders do not fit {self.corrupt} corrupt members.",
        )
        _require(
            2 * t > k + c,
            f"Threshold {t} lets a server with {c} of {k} holders obtain both secrets.",
            "2 x threshold must exceed neighbours + colluders.",
        )

    def _validate_vector(self) -> None:
        _require(1 <= self.dimension < 2**32, f"Dimension {self.dimension} is not in [1, 2^32).")
        _require(math.isfinite(self.clip) and self.clip > 0, f"Clip {self.clip} is not positive.")
        _require(self.levels >= 1, f"{self.levels} levels are not at least 1.")
        none = self.noise == 0 and math.copysign(1, self.noise) > 0  # -0.0 is a second encoding
        _require(
            none or LEAST_NOISE <= self.noise <= MOST_NOISE,
            f"Noise of {self.noise} levels is neither 0 nor in [{LEAST_NOISE:g}, 2^26].",
        )

    def _validate_modulus(self) -> None:
        _require(self.bits in MODULUS_BITS, f"Modulus of {self.bits} bits is not 16, 24 or 32.")
        largest = self.cohort * self.levels
        largest += wrap_margin(self.noise, self.cohort, self.dimension)
        _require(
            largest <= 2 ** (self.bits - 1) - 1,
            f"A sum can reach {largest}, which wraps modulo 2^{self.bits}.",
            "Lower levels, noise or cohort, or raise bits.",
        )

    def encode(self) -> bytes:
        """The one canonical encoding.

        Raises:
            ProtocolError: The terms are not valid.
        """
        self.validate()
        sizes = (self.cohort, self.least, self.corrupt)
        graph = (self.neighbours, self.threshold, self.colluders)
        return b"".join(
            [
                u8(VERSION),
                _text(self.run),
                *map(u64, (self.round, self.attempt, self.seed)),
                u32(self.dimension),
                _f64(self.clip),
                u8(self.bits),
                u32(self.levels),
                _f64(self.noise),
                *map(u32, sizes + graph),
                _text(self.training),
                u64(self.log_size),
                bytes.fromhex(self.log_head),
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> "RoundTerms":
        """Read what `encode` wrote.

        Raises:
            DecodeError: Not exactly one canonical encoding.
            ProtocolError: Well formed, but the values contradict each other.
        """
        reader = Reader(data, "Round terms")
        reader.expect(u8(VERSION), "version")
        terms = cls(
            run=_read_text(reader),
            round=reader.u64(),
            attempt=reader.u64(),
            seed=reader.u64(),
            dimension=reader.u32(),
            clip=reader.f64(),
            bits=reader.u8(),
            levels=reader.u32(),
            noise=reader.f64(),
            cohort=reader.u32(),
            least=reader.u32(),
            corrupt=reader.u32(),
            neighbours=reader.u32(),
            threshold=reader.u32(),
            colluders=reader.u32(),
            training=_read_text(reader),
            log_size=(log_size := reader.u64()),
            log_head=reader.take(HEAD_BYTES if log_size else 0).hex(),
        )
        reader.end()
        terms.validate()
        return terms

    def digest(self) -> bytes:
        """T: SHA-256 of the encoding behind a domain label, 32 bytes."""
        return hashlib.sha256(_TERMS + self.encode()).digest()

    def degree(self, members: int) -> int:
        """k': how many holders each member chooses in a roster of `members`."""
        return min(self.neighbours, members - 1)


def bound_digest(digest: bytes, binding: bytes) -> bytes:
    """T1: the digest of terms and binding, 32 bytes.

    Args:
        digest: T, of the terms.
        binding: SHA-256 of the published adapter that the vectors are updates of.

    Raises:
        ProtocolError: The binding is not 32 bytes.
    """
    _require(
        len(binding) == BINDING_BYTES,
        f"A binding of {len(binding)} bytes, expected {BINDING_BYTES}.",
        "Give the SHA-256 of the adapter.",
    )
    return hashlib.sha256(_BOUND + digest + binding).digest()


def _require(condition: object, message: str, hint: str = "") -> None:
    if not condition:
        raise ProtocolError(message, hint)


def _f64(value: float) -> bytes:
    return struct.pack(">d", value)


def _text(value: str) -> bytes:
    return u8(len(value)) + value.encode("ascii")


def _read_text(reader: Reader) -> str:
    raw = reader.take(reader.u8())
    if not raw.isascii():
        raise DecodeError(f"Round terms: text {raw!r} is not ASCII.")
    return raw.decode("ascii")
