"""One error tree. Every message says what was wrong and the value; the hint says what to do."""

import errno

from common.visible import visible


def disk_is_full(error: OSError) -> bool:
    """Whether a file could not be written for want of room, or of quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class PrivityError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: What was wrong, with the value it got. Never personal data.
        hint: What to do about it.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return visible(f"{self.message} {self.hint}".strip())


class InputError(PrivityError):
    """The user's input or setting is wrong (exit code 2)."""

    exit_code = 2


class ProtocolError(PrivityError):
    """A message breaks the secure-aggregation protocol; nothing is revealed in reply."""


class DecodeError(ProtocolError):
    """Bytes that are not exactly one well-formed message of a known version."""


class RoundAbandonedError(ProtocolError):
    """Too few members are left to reach the threshold; the round reveals nothing."""


class BudgetExceededError(PrivityError):
    """The device's privacy budget does not cover what was asked of it."""


class DeclinedError(PrivityError):
    """The device's own policy says no to a round; the federation learns that, not why."""
