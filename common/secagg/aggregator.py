"""The server's side of a round: bytes in, bytes out, no I/O.

Bonawitz et al. 2017, figure 4, with neighbours in place of everybody (Bell et al. 2020). A member
whose message is missing or wrong has dropped out; wrong ones are named in `refused`. Memory is
one vector, whatever the cohort.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from common.errors import ProtocolError, RoundAbandonedError
from common.secagg import messages
from common.secagg._hazmat import keys, prg, shamir
from common.secagg.identity import verify
from common.secagg.messages import Advert, Inbox, Secret, Shares
from common.secagg.quantize import unpack
from common.secagg.roster import (
    Roster,
    commitment,
    draw,
    require_neighbourhoods,
    require_new_keys,
    require_quorum,
    transcript,
    verify_advert,
)
from common.secagg.terms import RoundTerms

_T = TypeVar("_T")


class _Stage(IntEnum):
    """What the aggregator waits for."""

    ADVERTS = 0
    SHARES = 1
    MASKED = 2
    CONFIRMATIONS = 3
    REVEALS = 4
    DONE = 5
    DEAD = 6


class Aggregator:
    """The server of one round.

    Args:
        terms: The terms that every member was given.
        authority: The enrolment authority's key.

    Attributes:
        refused: For each member whose message was refused, why.

    Raises:
        ProtocolError: The terms contradict themselves.
    """

    def __init__(self, terms: RoundTerms, authority: Ed25519PublicKey) -> None:
        self.refused: dict[int, str] = {}
        self._terms, self._digest, self._authority = terms, terms.digest(), authority
        self._stage = _Stage.ADVERTS
        self._total = np.zeros(0, dtype=np.uint32)
        self._survivors: set[int] = set()

    def __repr__(self) -> str:
        return f"<Aggregator {self._stage.name.lower()}>"

    def roster(self, adverts: Mapping[int, bytes]) -> dict[int, bytes]:
        """Collect the adverts; the roster goes to each of its members.

        Raises:
            ProtocolError: Called out of order (so for every leg), or more than the cohort.
            RoundAbandonedError: Too few are left; so for every leg.
        """
        with self._leg(_Stage.ADVERTS, _Stage.SHARES):
            opened: dict[int, Advert] = {}
            devices: dict[int, Ed25519PublicKey] = {}
            self._keys: set[bytes] = set()
            for member, data in sorted(adverts.items()):
                advert = self._take(member, data, self._open_advert)
                if advert is not None:
                    opened[member], devices[member] = advert
            encoded = messages.encode_roster(self._digest, opened)
            self._roster: Roster = draw(self._terms, opened, devices, encoded)
            return dict.fromkeys(opened, encoded)

    def inboxes(self, shares: Mapping[int, bytes]) -> dict[int, bytes]:
        """Collect the encrypted shares; each sharer gets those addressed to it.

        Raises:
            RoundAbandonedError: Too few shared.
        """
        with self._leg(_Stage.SHARES, _Stage.MASKED):
            opened = self._take_all(shares, self._open_shares)
            self._sharers = frozenset(opened)
            require_quorum(self._terms, self._roster, self._sharers)
            require_neighbourhoods(self._terms, self._roster, self._sharers, self._sharers)
            self._commitments = {member: sent.commitment for member, sent in opened.items()}
            self._total = np.zeros(self._terms.dimension, dtype=np.uint32)
            return {member: self._inbox(member, opened) for member in opened}

    def receive(self, member: int, masked: bytes) -> None:
        """Add one masked input to the running sum as it arrives; a repeat is ignored.

        Raises:
            ProtocolError: No masked inputs are expected now.
        """
        if self._stage is not _Stage.MASKED:
            raise ProtocolError(f"Masked input in stage {self._stage.name.lower()}.")
        if member not in self._survivors:
            self._take(member, masked, self._add_masked)

    def survivors(self, masked: Mapping[int, bytes]) -> dict[int, bytes]:
        """Close the sum over what `receive` got and `masked` brings; survivors get their list.

        Raises:
            RoundAbandonedError: Too few are in the sum.
        """
        with self._leg(_Stage.MASKED, _Stage.CONFIRMATIONS):
            for member in sorted(set(masked) - self._survivors):
                self._take(member, masked[member], self._add_masked)
            require_quorum(self._terms, self._roster, self._survivors)
            require_neighbourhoods(self._terms, self._roster, self._sharers, self._survivors)
            encoded = messages.encode_survivors(self._digest, self._survivors)
            return dict.fromkeys(sorted(self._survivors), encoded)

    def confirmations(self, signed: Mapping[int, bytes]) -> dict[int, bytes]:
        """Collect the signatures over the list; they go to everyone who signed.

        Raises:
            RoundAbandonedError: Too few signed.
        """
        with self._leg(_Stage.CONFIRMATIONS, _Stage.REVEALS):
            signatures = self._take_all(signed, self._open_confirmation)
            require_quorum(self._terms, self._roster, signatures)
            require_neighbourhoods(self._terms, self._roster, self._sharers, signatures)
            encoded = messages.encode_confirmations(self._digest, signatures)
            self._confirmed = frozenset(signatures)
            return dict.fromkeys(signatures, encoded)

    def unmask(self, revealed: Mapping[int, bytes]) -> NDArray[np.uint32]:
        """The sum of the survivors' vectors mod 2^b: [dimension].

        Raises:
            RoundAbandonedError: Too few shares, or shares that do not rebuild the secrets.
        """
        with self._leg(_Stage.REVEALS, _Stage.DONE):
            opened = self._take_all(revealed, self._open_reveal)
            require_neighbourhoods(self._terms, self._roster, self._sharers, opened)
            for member in sorted(self._sharers):
                shares = {
                    holder: opened[holder][member][1]
                    for holder in self._roster.graph[member]
                    if holder in opened
                }
                if member in self._survivors:
                    self._remove_self_mask(member, shares)
                else:
                    self._remove_pair_masks(member, shares)
            self._total &= np.uint32(2**self._terms.bits - 1)
            return self._total

    @contextmanager
    def _leg(self, before: _Stage, after: _Stage) -> Iterator[None]:
        """Dead while the leg runs; only its success brings the next stage."""
        stage, self._stage = self._stage, _Stage.DEAD
        if stage is not before:
            raise ProtocolError(f"Stage is {stage.name.lower()}, not {before.name.lower()}.")
        yield
        self._stage = after

    def _take(self, member: int, data: bytes, take: Callable[[int, bytes], _T]) -> _T | None:
        """What `take` makes of a member's message, or None and a reason in `refused`."""
        try:
            return take(member, data)
        except ProtocolError as error:
            self.refused[member] = str(error)
            return None

    def _take_all(
        self, received: Mapping[int, bytes], take: Callable[[int, bytes], _T]
    ) -> dict[int, _T]:
        taken = {member: self._take(member, received[member], take) for member in sorted(received)}
        return {member: value for member, value in taken.items() if value is not None}

    def _open_advert(self, member: int, data: bytes) -> tuple[Advert, Ed25519PublicKey]:
        advert = messages.decode_advert(self._digest, member, data)
        device = verify_advert(self._digest, self._authority, member, advert)
        require_new_keys(member, advert, self._keys)
        return advert, device

    def _open_shares(self, member: int, data: bytes) -> Shares:
        shares = messages.decode_shares(self._digest, member, data)
        if tuple(shares.sealed) != self._roster.graph.get(member):
            raise ProtocolError(f"Member {member} did not share with exactly its neighbours.")
        return shares

    def _inbox(self, member: int, opened: Mapping[int, Shares]) -> bytes:
        senders = self._sharers.intersection(self._roster.graph[member])
        sealed = {sender: opened[sender].sealed[member] for sender in senders}
        return messages.encode_inbox(self._digest, Inbox(tuple(sorted(self._sharers)), sealed))

    def _add_masked(self, member: int, data: bytes) -> None:
        if member not in self._sharers:
            raise ProtocolError(f"Member {member} sent a masked input but never shared.")
        packed = messages.decode_masked(self._digest, member, data)
        self._total += unpack(packed, self._terms.bits, self._terms.dimension)
        self._survivors.add(member)

    def _open_confirmation(self, member: int, data: bytes) -> bytes:
        if member not in self._survivors:
            raise ProtocolError(f"Member {member} confirmed but is not in the sum.")
        signature = messages.decode_confirmation(self._digest, member, data)
        statement = transcript(self._digest, self._roster, self._sharers, self._survivors)
        device = self._roster.devices[member]
        verify(device, signature, statement, f"Confirmation of member {member}")
        return signature

    def _open_reveal(self, member: int, data: bytes) -> dict[int, tuple[Secret, bytes]]:
        if member not in self._confirmed:
            raise ProtocolError(f"Member {member} revealed but did not confirm.")
        shares = messages.decode_reveal(self._digest, member, data)
        expected = {
            peer: Secret.SELF_MASK if peer in self._survivors else Secret.MASK_KEY
            for peer in self._sharers.intersection(self._roster.graph[member])
        }
        if {peer: secret for peer, (secret, _) in shares.items()} != expected:
            raise ProtocolError(f"Member {member} did not reveal the shares that were due.")
        for _, share in shares.values():
            shamir.decode_share(share)
        return shares

    def _remove_self_mask(self, member: int, shares: Mapping[int, bytes]) -> None:
        expected = self._commitments[member]
        seed = self._rebuild(
            member, shares, lambda seed: commitment(self._digest, member, seed) == expected
        )
        key = keys.self_mask_key(self._digest, seed, self._roster.mask_party(member))
        prg.add_mask(self._total, key, -1)

    def _remove_pair_masks(self, member: int, shares: Mapping[int, bytes]) -> None:
        """Take out what the dropped member's neighbours added towards it."""
        own = self._roster.mask_party(member)
        private = self._rebuild(member, shares, lambda key: keys.public_key(key) == own.public)
        for peer in self._survivors.intersection(self._roster.graph[member]):
            key = keys.pair_mask_key(self._digest, private, own, self._roster.mask_party(peer))
            prg.add_mask(self._total, key, -1 if peer < member else +1)

    def _rebuild(
        self, member: int, shares: Mapping[int, bytes], fits: Callable[[bytes], bool]
    ) -> bytes:
        """The secret that fits. Each run of t holders is tried, so one wrong share among more
        than t does no harm.
        """
        holders = sorted(shares)
        for start in range(len(holders)):
            chosen = (holders[start:] + holders[:start])[: self._terms.threshold]
            try:
                secret = shamir.combine({holder: shares[holder] for holder in chosen})
            except ProtocolError:
                continue
            if fits(secret):
                return secret
        raise RoundAbandonedError(f"The shares of member {member} do not rebuild its secret.")
