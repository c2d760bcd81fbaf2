"""Secure aggregation: the server learns the sum of the members' vectors and nothing else of them.

SecAgg (Bonawitz et al. 2017, https://eprint.iacr.org/2017/281) on a sparse graph in which each
member chooses its own neighbours (SecAgg+, Bell et al. 2020, https://eprint.iacr.org/2020/704).
State machines without I/O: bytes in, bytes out. SPEC.md gives the messages, the threat model and
a worked test vector.
"""

from common.secagg.aggregator import Aggregator
from common.secagg.floor import Floor, require_floor
from common.secagg.identity import Certificate, certify, verify_certificate
from common.secagg.noise_room import levels_with_noise, wrap_margin
from common.secagg.participant import Participant
from common.secagg.quantize import (
    dequantize,
    from_ring,
    levels_for,
    pack,
    quantize,
    to_ring,
    unpack,
)
from common.secagg.terms import RoundTerms

__all__ = [
    "Aggregator",
    "Certificate",
    "Floor",
    "Participant",
    "RoundTerms",
    "certify",
    "dequantize",
    "from_ring",
    "levels_for",
    "levels_with_noise",
    "pack",
    "quantize",
    "require_floor",
    "to_ring",
    "unpack",
    "verify_certificate",
    "wrap_margin",
]
