"""Shamir's secret sharing of 32-byte secrets over the field of 2^521 - 1.

Shamir 1979. The field is larger than any secret, so a wrong share shows as a value of 2^256 or
more with probability 1 - 2^-265; the share's x is the holder's member id plus one.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from common.errors import ProtocolError

PRIME = 2**521 - 1
SECRET_BYTES = 32
SHARE_BYTES = 66
_COEFFICIENT_BYTES = 82  # 135 bits beyond the prime: the bias of the reduction is below 2^-134


def split(
    secret: bytes, holders: Sequence[int], threshold: int, random: Callable[[int], bytes]
) -> dict[int, bytes]:
    """One share for each holder; any `threshold` of them give the secret, fewer say nothing.

    Args:
        secret: 32 bytes.
        holders: Distinct member ids in [0, 2^64).
        threshold: Shares that rebuild, at most len(holders).
        random: Source of random bytes.

    Returns:
        66 bytes for each holder.

    Raises:
        ProtocolError: The threshold does not fit the holders, or the secret its length.
    """
    if len(secret) != SECRET_BYTES:
        raise ProtocolError(f"A secret of {len(secret)} bytes, expected {SECRET_BYTES}.")
    if not 1 <= threshold <= len(set(holders)) == len(holders):
        raise ProtocolError(f"Threshold {threshold} does not fit {len(holders)} holders.")
    polynomial = [int.from_bytes(secret, "big")]
    polynomial += [_element(random) for _ in range(threshold - 1)]
    return {
        holder: _evaluate(polynomial, holder + 1).to_bytes(SHARE_BYTES, "big") for holder in holders
    }


def combine(shares: Mapping[int, bytes]) -> bytes:
    """The secret from exactly as many shares as the threshold, by holder.

    Raises:
        ProtocolError: The shares do not give a 32-byte secret.
    """
    holders = tuple(sorted(shares))
    coefficients = _at_zero(holders)
    values = (decode_share(shares[holder]) for holder in holders)
    secret = sum(c * value for c, value in zip(coefficients, values, strict=True)) % PRIME
    if secret >> (8 * SECRET_BYTES):
        raise ProtocolError(f"Shares of members {holders} do not belong together.")
    return secret.to_bytes(SECRET_BYTES, "big")


def decode_share(share: bytes) -> int:
    """The field element in a share.

    Raises:
        ProtocolError: Not 66 bytes, or not below the prime.
    """
    value = int.from_bytes(share, "big")
    if len(share) != SHARE_BYTES or value >= PRIME:
        raise ProtocolError(f"A share of {len(share)} bytes is not a field element.")
    return value


def _evaluate(polynomial: list[int], x: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * x + coefficient) % PRIME
    return value


def _element(random: Callable[[int], bytes]) -> int:
    return int.from_bytes(random(_COEFFICIENT_BYTES), "big") % PRIME


@lru_cache(maxsize=1024)
def _at_zero(holders: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange coefficients at zero for the x of these holders.

    With P the product of all x, that of x is P / (x * product of (other - x)).
    """
    xs = [holder + 1 for holder in holders]
    whole = _product(xs)
    below = [x * _product([other - x for other in xs if other != x]) % PRIME for x in xs]
    return tuple(whole * inverse % PRIME for inverse in _inverses(below))


def _product(factors: list[int]) -> int:
    product = 1
    for factor in factors:
        product = product * factor % PRIME
    return product


def _inverses(values: list[int]) -> list[int]:
    """Inverses mod the prime for the price of one (Montgomery's trick)."""
    before, product = [], 1
    for value in values:
        before.append(product)
        product = product * value % PRIME
    rest, found = pow(product, -1, PRIME), []
    for value, ahead in zip(reversed(values), reversed(before), strict=True):
        found.append(rest * ahead % PRIME)
        rest = rest * value % PRIME
    return found[::-1]
