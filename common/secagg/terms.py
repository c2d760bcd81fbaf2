"""What a round is about. Its digest enters every key, signature and message of the round.

Members who were handed different models or settings derive different masks, so the server gets
noise instead of one member's update (model inconsistency, https://arxiv.org/abs/2111.07380).
"""

import hashlib
import math
import re
import struct
from dataclasses import dataclass

from common.errors import DecodeError, ProtocolError
from common.secagg.wire import U64_MAX, Reader, u8, u32, u64

VERSION = 1
MODULUS_BITS = (16, 24, 32)
_DOMAIN = b"privity/secagg/v1/terms\x00"
_RUN = re.compile(r"[!-~]{1,128}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]{1,128}")


@dataclass(frozen=True, slots=True)
class RoundTerms:
    """The public terms of one attempt at one round.

    Args:
        run: Printable ASCII id of the federation run, 1 to 128 characters, no spaces.
        round: Number of the round, from 0.
        attempt: Number of the attempt at this round, from 0.
        adapter: SHA-256 (hex) of the published shared adapter v_n.
        seed: Published seed from which A is derived.
        dimension: Coordinates in the vector that is summed.
        clip: Clip range of the quantiser per coordinate, in units of the parameter.
        bits: Modulus bits b; sums are taken mod 2^b.
        levels: The quantiser yields integers in [-levels, levels].
        cohort: Most members that may take part (n).
        neighbours: Neighbours of each member in the graph (k).
        threshold: Neighbours whose shares rebuild a secret (t). A member holds no share of its
            own secrets, so t of k others are needed.
        colluders: Most neighbours of any one member that collude with the server (c).
        training: Hex digest of the training settings sent with the round.
    """

    run: str
    round: int
    attempt: int
    adapter: str
    seed: int
    dimension: int
    clip: float
    bits: int
    levels: int
    cohort: int
    neighbours: int
    threshold: int
    colluders: int
    training: str

    def validate(self) -> None:
        """Check that the values are in range and do not contradict each other.

        Raises:
            ProtocolError: They do; the message names the value.
        """
        self._validate_names()
        self._validate_quantiser()
        self._validate_threshold()

    def _validate_names(self) -> None:
        _require(_RUN.fullmatch(self.run), f"Run id {self.run!r} is not 1-128 printable ASCII.")
        _require(_SHA256.fullmatch(self.adapter), f"Adapter {self.adapter!r} is not SHA-256 hex.")
        _require(_HEX.fullmatch(self.training), f"Training {self.training!r} is not a hex digest.")
        for name in ("round", "attempt", "seed"):
            value = getattr(self, name)
            _require(0 <= value <= U64_MAX, f"{name} {value} is outside [0, 2^64).")

    def _validate_quantiser(self) -> None:
        _require(self.bits in MODULUS_BITS, f"Modulus of {self.bits} bits is not 16, 24 or 32.")
        _require(1 <= self.dimension < 2**32, f"Dimension {self.dimension} is not in [1, 2^32).")
        _require(math.isfinite(self.clip) and self.clip > 0, f"Clip {self.clip} is not positive.")
        _require(self.levels >= 1, f"{self.levels} levels are not at least 1.")
        largest = self.cohort * self.levels
        _require(
            largest <= 2 ** (self.bits - 1) - 1,
            f"A sum can reach {largest}, which wraps modulo 2^{self.bits}.",
            "Lower levels or cohort, or raise bits.",
        )

    def _validate_threshold(self) -> None:
        k, t, c = self.neighbours, self.threshold, self.colluders
        _require(2 <= self.cohort < 2**32, f"A cohort of {self.cohort} is not in [2, 2^32).")
        _require(k <= self.cohort - 1, f"{k} neighbours do not fit a cohort of {self.cohort}.")
        _require(1 <= t <= k, f"Threshold {t} is not in [1, {k}], the neighbours.")
        _require(c >= 0, f"{c} colluders are fewer than none.")
        _require(
            2 * t > k + c,
            f"Threshold {t} lets a server with {c} of {k} neighbours obtain both shares.",
            "2 x threshold must exceed neighbours + colluders.",
        )

    def encode(self) -> bytes:
        """The one canonical encoding.

        Raises:
            ProtocolError: The terms are not valid.
        """
        self.validate()
        return b"".join(
            [
                u8(VERSION),
                _text(self.run),
                u64(self.round),
                u64(self.attempt),
                bytes.fromhex(self.adapter),
                u64(self.seed),
                u32(self.dimension),
                struct.pack(">d", self.clip),
                u8(self.bits),
                u32(self.levels),
                *map(u32, (self.cohort, self.neighbours, self.threshold, self.colluders)),
                _text(self.training),
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
            adapter=reader.take(32).hex(),
            seed=reader.u64(),
            dimension=reader.u32(),
            clip=reader.f64(),
            bits=reader.u8(),
            levels=reader.u32(),
            cohort=reader.u32(),
            neighbours=reader.u32(),
            threshold=reader.u32(),
            colluders=reader.u32(),
            training=_read_text(reader),
        )
        reader.end()
        terms.validate()
        return terms

    def digest(self) -> bytes:
        """SHA-256 of the encoding behind a domain label, 32 bytes."""
        return hashlib.sha256(_DOMAIN + self.encode()).digest()

    def degree(self, members: int) -> int:
        """Neighbours of each member in the graph over `members` members.

        min(k, members - 1), less one where degree and members are both odd, since no regular
        graph exists then and a larger degree could break 2t > k + c.
        """
        degree = min(self.neighbours, members - 1)
        return degree - (degree % 2) * (members % 2)

    def quorum(self, members: int) -> int:
        """Members out of `members` who must survive and sign: the fraction t/k, rounded up.

        If no neighbourhood holds more than c colluders, at most members * c / k collude, so by
        2t > k + c two quorums share an honest member, and it signs one list only.
        """
        return -(-members * self.threshold // self.degree(members))


def _require(condition: object, message: str, hint: str = "") -> None:
    if not condition:
        raise ProtocolError(message, hint)


def _text(value: str) -> bytes:
    return u8(len(value)) + value.encode("ascii")


def _read_text(reader: Reader) -> str:
    raw = reader.take(reader.u8())
    if not raw.isascii():
        raise DecodeError(f"Round terms: text {raw!r} is not ASCII.")
    return raw.decode("ascii")
