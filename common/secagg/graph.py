"""Who holds whose shares: each member draws its own holders, and only then shares with them.

Nobody else's randomness enters, and the server is committed to every key before any choice is
made, so it cannot try rosters until one surrounds a member with colluders (Bell et al. 2020,
section 4, https://eprint.iacr.org/2020/704). Two members mask towards each other if either chose
the other.
"""

from collections.abc import Callable, Collection, Mapping

from common.errors import ProtocolError

_WORD_BYTES = 8
_WORDS = 2 ** (8 * _WORD_BYTES)


def choose_holders(
    member: int, members: Collection[int], k: int, random: Callable[[int], bytes]
) -> tuple[int, ...]:
    """Draw k of the other members, every set of k with the same probability.

    Args:
        member: Who chooses.
        members: Everyone, `member` too.
        k: Holders, at most len(members) - 1.
        random: Source of random bytes; 8 at a time are taken.

    Returns:
        The holders in ascending order.

    Raises:
        ProtocolError: `member` is not among `members`, or k does not fit.
    """
    peers = sorted(set(members) - {member})
    if len(peers) != len(members) - 1:
        raise ProtocolError(f"Member {member} is not one of {len(members)} distinct members.")
    if not 0 <= k <= len(peers):
        raise ProtocolError(f"{k} holders do not fit {len(peers)} peers.")
    for at in range(k):  # Fisher-Yates from the front, k steps of it
        other = at + _below(len(peers) - at, random)
        peers[at], peers[other] = peers[other], peers[at]
    return tuple(sorted(peers[:k]))


def choosers(holders: Mapping[int, Collection[int]]) -> dict[int, set[int]]:
    """Who chose each member, given whom each member chose; everyone who did either is a key."""
    chose: dict[int, set[int]] = {member: set() for member in holders}
    for member, chosen in holders.items():
        for holder in chosen:
            chose.setdefault(holder, set()).add(member)
    return chose


def _below(limit: int, random: Callable[[int], bytes]) -> int:
    """A uniform integer in [0, limit): words beyond the last whole multiple are rejected."""
    whole = _WORDS - _WORDS % limit
    while True:
        word = int.from_bytes(random(_WORD_BYTES), "big")
        if word < whole:
            return word % limit
