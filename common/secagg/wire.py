"""Strict binary reading and writing: every byte is accounted for or the message is refused.

All integers are big-endian and unsigned. One value has exactly one encoding.
"""

import struct
from collections.abc import Iterable

from common.errors import DecodeError

U64_MAX = 2**64 - 1


def u8(value: int) -> bytes:
    """One byte."""
    return struct.pack(">B", value)


def u32(value: int) -> bytes:
    """Four bytes, big-endian."""
    return struct.pack(">I", value)


def u64(value: int) -> bytes:
    """Eight bytes, big-endian."""
    return struct.pack(">Q", value)


def blob(value: bytes) -> bytes:
    """A byte string behind its length in eight bytes."""
    return u64(len(value)) + value


def require_ascending(members: Iterable[int], what: str) -> None:
    """Refuse member ids that repeat or are out of order.

    Raises:
        DecodeError: Two neighbouring ids are not strictly ascending.
    """
    previous = -1
    for member in members:
        if member <= previous:
            raise DecodeError(f"{what}: member {member} follows {previous}, ids must ascend.")
        previous = member


class Reader:
    """Takes fields off the front of a message; `end` refuses whatever is left."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = memoryview(data)
        self._at = 0
        self._what = what

    def take(self, length: int) -> bytes:
        """The next `length` bytes.

        Raises:
            DecodeError: Fewer are left.
        """
        left = len(self._data) - self._at
        if length > left:
            raise DecodeError(f"{self._what}: {length} bytes expected, {left} left.")
        self._at += length
        return bytes(self._data[self._at - length : self._at])

    def u8(self) -> int:
        """The next byte as an integer."""
        return self.take(1)[0]

    def u32(self) -> int:
        """The next four bytes as an integer."""
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        """The next eight bytes as an integer."""
        return int.from_bytes(self.take(8), "big")

    def f64(self) -> float:
        """The next eight bytes as an IEEE 754 double."""
        return float(struct.unpack(">d", self.take(8))[0])

    def blob(self) -> bytes:
        """A byte string behind its length."""
        return self.take(self.u64())

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(len(self._data) - self._at)

    def rest_view(self) -> memoryview:
        """All bytes that are left, without a copy of them."""
        at, self._at = self._at, len(self._data)
        return self._data[at:]

    def expect(self, value: bytes, name: str) -> None:
        """Take exactly `value`.

        Raises:
            DecodeError: Other bytes stand there.
        """
        got = self.take(len(value))
        if got != value:
            raise DecodeError(f"{self._what}: {name} is {got.hex()}, expected {value.hex()}.")

    def end(self) -> None:
        """Refuse trailing bytes.

        Raises:
            DecodeError: Something is left.
        """
        left = len(self._data) - self._at
        if left:
            raise DecodeError(f"{self._what}: {left} trailing bytes.")
