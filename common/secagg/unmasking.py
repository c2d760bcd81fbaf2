"""What is still in the sum of the masked inputs, from the shares that were revealed.

Of a survivor its self mask; of a member that shared and then dropped, the pair masks that others
added towards it (Bonawitz et al. 2017, figure 4, round 4).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from common.errors import ProtocolError, RoundAbandonedError
from common.secagg._hazmat import keys, shamir
from common.secagg.messages import SecretKind
from common.secagg.roster import Roster, commitment

Masks = list[tuple[bytes, int]]
Revealed = Mapping[int, tuple[SecretKind, bytes]]
_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Unmasking:
    """A round whose shares have been revealed.

    Args:
        digest: T, of the terms.
        bound: T1, of terms and binding.
        threshold: Shares that rebuild a secret.
        roster: The members.
        holders: For each sharer the holders it chose.
        choosers: For each sharer the sharers that chose it.
        commitments: For each sharer the hash of its self-mask seed.
        survivors: Whose inputs are in the sum.
        revealed: By holder, the shares that it revealed of members that chose it.
    """

    digest: bytes
    bound: bytes
    threshold: int
    roster: Roster
    holders: Mapping[int, Collection[int]]
    choosers: Mapping[int, Collection[int]]
    commitments: Mapping[int, bytes]
    survivors: Collection[int]
    revealed: Mapping[int, Revealed]
    _doubtful: set[int] = field(default_factory=set, init=False, repr=False)

    def masks(self) -> Iterator[Masks]:
        """Keys and signs of the masks that take the rest out of the sum, in batches.

        Raises:
            RoundAbandonedError: Somebody's shares do not rebuild its secret.
        """
        batch: Masks = []
        for member in sorted(self.holders):
            survived = member in self.survivors
            batch += [self._self_mask(member)] if survived else self._pair_masks(member)
            if len(batch) >= _AT_ONCE:
                yield batch
                batch = []
        yield batch

    def _self_mask(self, member: int) -> tuple[bytes, int]:
        expected = self.commitments[member]
        seed = self._rebuild(member, lambda seed: commitment(self.digest, member, seed) == expected)
        return keys.self_mask_key(self.bound, seed, self.roster.mask_party(member)), -1

    def _pair_masks(self, member: int) -> Masks:
        """What those added towards the dropped member that chose it or that it chose."""
        own = self.roster.mask_party(member)
        raw = self._rebuild(member, lambda key: keys.public_key(key) == own.public)
        private = keys.private_key(raw)
        partners = {*self.choosers[member], *self.holders[member]}
        return [
            (
                keys.pair_mask_key(self.bound, private, own, self.roster.mask_party(peer)),
                -1 if peer < member else +1,
            )
            for peer in sorted(partners.intersection(self.survivors))
        ]

    def _rebuild(self, member: int, fits: Callable[[bytes], bool]) -> bytes:
        """The secret that fits. Each run of t holders in a ring is tried, so one wrong share among
        more than t does no harm; first without those who gave a wrong share of another member,
        or one liar would cost up to t tries for every secret.
        """
        holders = [h for h in sorted(self.holders[member]) if member in self.revealed.get(h, {})]
        if len(holders) < self.threshold:
            raise RoundAbandonedError(
                f"{len(holders)} shares of member {member} came, {self.threshold} are needed."
            )
        trusted = [h for h in holders if h not in self._doubtful]
        for ring in [trusted, holders] if len(trusted) < len(holders) else [holders]:
            if (secret := self._around(ring, member, fits)) is not None:
                return secret
        raise RoundAbandonedError(f"The shares of member {member} do not rebuild its secret.")

    def _around(
        self, ring: Sequence[int], member: int, fits: Callable[[bytes], bool]
    ) -> bytes | None:
        """The secret that fits, from the first run of t in the ring that gives it."""
        if len(ring) < self.threshold:
            return None
        for start in range(len(ring)):
            chosen = [*ring[start:], *ring[:start]][: self.threshold]
            shares = {holder: self.revealed[holder][member][1] for holder in chosen}
            try:
                secret = shamir.combine(shares)
            except ProtocolError:
                continue
            if fits(secret):
                if start:  # the run before had this one in place of the last, and failed
                    self._doubtful.add(ring[start - 1])
                return secret
        return None
