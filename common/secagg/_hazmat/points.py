"""Public keys as bytes: one spelling for each, and none that makes a signature or secret worthless.

X25519 ignores the highest bit and reduces the rest (RFC 7748, section 5), so one key has several
spellings; a roster that holds "no key twice" would not see that. An Ed25519 key of small order
accepts signatures that nobody made (RFC 8032 leaves it to the caller to refuse such keys).
"""

from common.errors import ProtocolError

KEY_BYTES = 32
_P = 2**255 - 19
_SIGN = 2**255
_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = frozenset({0, 1, _P - 1, _ORDER_8, _P - _ORDER_8})  # y of the eight such points


def require_canonical_x25519(public: bytes) -> None:
    """Refuse a second spelling of an X25519 key.

    Raises:
        ProtocolError: It is one.
    """
    if int.from_bytes(public, "little") >= _P:
        raise ProtocolError(f"X25519 key {public.hex()} is not in its one spelling.")


def require_ed25519(public: bytes) -> None:
    """Refuse an Ed25519 key in a second spelling, or one that others can sign for.

    Whether it is on the curve shows when a signature is verified with it.

    Raises:
        ProtocolError: Wrong length, not canonical, or of small order.
    """
    number = int.from_bytes(public, "little")
    y = number % _SIGN
    if len(public) != KEY_BYTES or y >= _P:
        raise ProtocolError(f"Ed25519 key {public.hex()} is not in its one spelling.")
    if y in _SMALL_ORDER:
        raise ProtocolError(f"Ed25519 key {public.hex()} is of small order.")
