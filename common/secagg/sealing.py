"""A member's secrets at work: sealed shares for its holders, and the keys of its masks."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from common.errors import ProtocolError
from common.secagg._hazmat import keys, shamir
from common.secagg.roster import Roster
from common.secagg.state import State


@dataclass(frozen=True, slots=True, repr=False)
class Sealer:
    """One member among those of a roster.

    Args:
        digest: T, of the terms.
        roster: The members.
        member: Own id.
        state: Own secrets.
    """

    digest: bytes
    roster: Roster
    member: int
    state: State

    def seal(
        self, holders: Sequence[int], threshold: int, random: Callable[[int], bytes]
    ) -> dict[int, bytes]:
        """Seal to each holder one share of the self-mask seed and one of the mask key."""
        seeds = shamir.split(self.state.self_seed, holders, threshold, random)
        privates = shamir.split(self.state.mask_private, holders, threshold, random)
        boxes = self._share_keys(holders, outgoing=True)
        return {
            peer: keys.seal(key, seeds[peer] + privates[peer], random)
            for peer, key in boxes.items()
        }

    def unseal(self, sealed: Mapping[int, bytes]) -> dict[int, tuple[bytes, bytes]]:
        """By sender, the share of its self-mask seed and the share of its mask key.

        A sender is missing if it did not seal this for this member under this roster, or if what
        it sealed are no shares.
        """
        opened = {}
        for peer, key in self._share_keys(sealed, outgoing=False).items():
            with suppress(ProtocolError):
                opened[peer] = _shares(keys.unseal(key, sealed[peer]))
        return opened

    def masks(self, bound: bytes, partners: Collection[int]) -> list[tuple[bytes, int]]:
        """Keys and signs of the masks in y_i, `bound` being T1.

        y_i = x_i + PRG(b_i) + sum over j > i of PRG(s_ij) - sum over j < i of PRG(s_ij).
        """
        own, private = (
            self.roster.mask_party(self.member),
            keys.private_key(self.state.mask_private),
        )
        masks = [(keys.self_mask_key(bound, self.state.self_seed, own), +1)]
        for peer in sorted(partners):
            other = self.roster.mask_party(peer)
            key = keys.pair_mask_key(bound, private, own, other)
            masks.append((key, +1 if self.member < peer else -1))
        return masks

    def _share_keys(self, peers: Collection[int], *, outgoing: bool) -> dict[int, bytes]:
        """The key that seals towards each peer, or from each."""
        own, private = (
            self.roster.share_party(self.member),
            keys.private_key(self.state.share_private),
        )
        derived = {}
        for peer in peers:
            other = self.roster.share_party(peer)
            sender, receiver = (own, other) if outgoing else (other, own)
            secret = keys.agree(private, other.public)
            rho = self.roster.digest
            derived[peer] = keys.share_key(self.digest, secret, rho, sender, receiver)
        return derived


def _shares(opened: bytes) -> tuple[bytes, bytes]:
    """Two shares that stand one behind the other.

    Raises:
        ProtocolError: They are not elements of the field.
    """
    both = opened[: shamir.SHARE_BYTES], opened[shamir.SHARE_BYTES :]
    for share in both:
        shamir.decode_share(share)
    return both
