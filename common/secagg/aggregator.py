"""The server's side of a round: bytes in, bytes out, no I/O.

Bonawitz et al. 2017, figure 4, with holders that each member chooses itself in place of everybody
(Bell et al. 2020, section 4). A member whose message is missing or wrong has dropped out; wrong
ones are named in `refused`. Memory is one vector, whatever the cohort.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from common.errors import ProtocolError, RoundAbandonedError
from common.secagg import messages
from common.secagg._hazmat import prg, shamir
from common.secagg.graph import choosers
from common.secagg.identity import verify
from common.secagg.messages import Advert, SecretKind, Shares
from common.secagg.quantize import add_packed
from common.secagg.roster import (
    Roster,
    require_holders,
    require_neighbourhoods,
    require_new_keys,
    require_quorum,
    require_size,
    roster_digest,
    transcript,
    verify_advert,
)
from common.secagg.terms import RoundTerms, bound_digest
from common.secagg.unmasking import Revealed, Unmasking

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
        left_out: Members whose shares too few holders opened. Either they or holders of theirs
            are at fault.

    Raises:
        ProtocolError: The terms contradict themselves.
    """

    def __init__(self, terms: RoundTerms, authority: Ed25519PublicKey) -> None:
        self.refused: dict[int, str] = {}
        self.left_out: set[int] = set()
        self._terms, self._digest, self._authority = terms, terms.digest(), authority
        self._stage = _Stage.ADVERTS
        self._bound = b""
        self._total = np.zeros(0, dtype=np.uint32)
        self._survivors: set[int] = set()

    def __repr__(self) -> str:
        return f"<Aggregator {self._stage.name.lower()}>"

    def unopened(self) -> str:
        """What is known about those left out, and no more, in words; empty if there are none."""
        if not self.left_out:
            return ""
        some = f"too few holders opened the shares of {len(self.left_out)} of the members"
        return f"{some}; who is at fault cannot be known"

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
            require_size(self._terms, opened)
            encoded = messages.encode_roster(self._digest, opened)
            self._roster = Roster(opened, devices, roster_digest(self._digest, encoded))
            return dict.fromkeys(opened, encoded)

    def inboxes(self, shares: Mapping[int, bytes]) -> dict[int, bytes]:
        """Collect the encrypted shares; each sharer gets those that others sealed for it.

        Raises:
            RoundAbandonedError: Too few shared.
        """
        with self._leg(_Stage.SHARES, _Stage.MASKED):
            self._shares = self._take_all(shares, self._open_shares)
            self._total = np.zeros(self._terms.dimension, dtype=np.uint32)
            return self._settled({})

    def settle(self, opened: Mapping[int, bytes]) -> dict[int, bytes]:
        """Go on with those who could open their inbox; each gets the inbox that holds.

        To be called once, after `inboxes` and before the first masked input, or not at all: then a
        member whose shares do not open costs a whole round. Who has fewer than t holders with its
        shares is not part of the round, and is in `left_out`.

        Args:
            opened: What members answered to their inbox.

        Raises:
            RoundAbandonedError: Too few are left.
        """
        with self._leg(_Stage.MASKED, _Stage.MASKED):
            if self._survivors:
                raise ProtocolError("Masked inputs have come already.")
            unopened = self._take_all(opened, self._open_opened)
            require_quorum(self._terms, unopened)
            here = set(unopened)
            self._shares = {m: sent for m, sent in self._shares.items() if m in here}
            while lost := self._without_keepers(unopened):
                self.left_out.update(lost)
                for member in lost:
                    del self._shares[member]
                left, least = len(self._shares), self._terms.least
                if left < least:  # at once: else those whose holders are gone would count too
                    which = f"{left} members are left, {least} are needed"
                    raise RoundAbandonedError(f"{which}: {self.unopened()}.")
            inboxes = self._settled(unopened)
            self._shares = {}  # they are the most that a large cohort's server holds
            return inboxes

    def _without_keepers(self, unopened: Mapping[int, Collection[int]]) -> list[int]:
        """Sharers whose secrets could not be rebuilt."""
        t = self._terms.threshold
        return [m for m in sorted(self._shares) if len(self._keepers_of(m, unopened)) < t]

    def _keepers_of(self, member: int, unopened: Mapping[int, Collection[int]]) -> set[int]:
        """The holders of a sharer who are sharers too and do not say that its shares fail."""
        holders = self._shares[member].sealed.keys() & self._shares.keys()
        return {holder for holder in holders if member not in unopened.get(holder, ())}

    def _settled(self, unopened: Mapping[int, Collection[int]]) -> dict[int, bytes]:
        """Everybody's inbox, with those who share from now on."""
        self._holders = {member: tuple(sent.sealed) for member, sent in self._shares.items()}
        self._keepers = {member: self._keepers_of(member, unopened) for member in self._shares}
        self._commitments = {member: sent.commitment for member, sent in self._shares.items()}
        self._choosers = choosers(self._holders)
        self._require_enough(self._shares)
        sealed = {
            member: {chose: self._shares[chose].sealed[member] for chose in self._choosers[member]}
            for member in self._shares
        }
        return messages.encode_inboxes(self._digest, self._shares, sealed)

    def bind(self, binding: bytes) -> None:
        """Say what the vectors are updates of, once and before the first of them.

        Args:
            binding: SHA-256 of the published adapter, 32 bytes.

        Raises:
            ProtocolError: Not 32 bytes, or the round is bound already.
        """
        if self._bound:
            raise ProtocolError("The round is bound to an adapter already.")
        self._bound = bound_digest(self._digest, binding)

    def receive(self, member: int, masked: bytes) -> None:
        """Add one masked input to the running sum as it arrives; a repeat is ignored.

        Raises:
            ProtocolError: No masked inputs are expected now, or the round is not bound yet.
        """
        self._require_bound()
        if self._stage is not _Stage.MASKED:
            raise ProtocolError(f"Masked input in stage {self._stage.name.lower()}.")
        if member not in self._survivors:
            self._take(member, masked, self._add_masked)

    def survivors(self, masked: Mapping[int, bytes]) -> dict[int, bytes]:
        """Close the sum over what `receive` got and `masked` brings; survivors get their list.

        Raises:
            ProtocolError: The round is not bound yet.
            RoundAbandonedError: Too few are in the sum.
        """
        self._require_bound()
        with self._leg(_Stage.MASKED, _Stage.CONFIRMATIONS):
            for member in sorted(set(masked) - self._survivors):
                self._take(member, masked[member], self._add_masked)
            self._require_enough(self._survivors)
            encoded = messages.encode_survivors(self._bound, self._survivors)
            self._statement = self._transcript()
            self._shares = {}
            return dict.fromkeys(sorted(self._survivors), encoded)

    def confirmations(self, signed: Mapping[int, bytes]) -> dict[int, bytes]:
        """Collect the signatures over the list; they go to everyone who signed.

        Raises:
            RoundAbandonedError: Too few signed.
        """
        with self._leg(_Stage.CONFIRMATIONS, _Stage.REVEALS):
            signatures = self._take_all(signed, self._open_confirmation)
            self._require_enough(signatures)
            encoded = messages.encode_confirmations(self._bound, signatures)
            self._confirmed = frozenset(signatures)
            return dict.fromkeys(signatures, encoded)

    def unmask(self, revealed: Mapping[int, bytes]) -> NDArray[np.uint32]:
        """The sum of the survivors' vectors mod 2^b: [dimension].

        Raises:
            RoundAbandonedError: Too few shares, or shares that do not rebuild the secrets.
        """
        with self._leg(_Stage.REVEALS, _Stage.DONE):
            opened = self._take_all(revealed, self._open_reveal)
            require_neighbourhoods(self._terms, self._keepers, opened)
            for masks in self._unmasking(opened).masks():
                prg.add_masks(self._total, masks)
            self._total &= np.uint32(2**self._terms.bits - 1)
            return self._total

    @contextmanager
    def _leg(self, before: _Stage, after: _Stage) -> Iterator[None]:
        """Make the state unusable while the leg runs; only success moves it to the next stage."""
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
        if member not in self._roster.adverts:
            raise ProtocolError(f"Member {member} shared but is not in the roster.")
        shares = messages.decode_shares(self._digest, member, data)
        require_holders(self._terms, self._roster, member, shares.sealed)
        return shares

    def _open_opened(self, member: int, data: bytes) -> frozenset[int]:
        if member not in self._shares:
            raise ProtocolError(f"Member {member} opened an inbox but never shared.")
        unopened = messages.decode_opened(self._digest, member, data)
        if not unopened <= self._choosers[member]:
            raise ProtocolError(f"Member {member} names shares that were not sent to it.")
        return unopened

    def _require_enough(self, present: Collection[int]) -> None:
        require_quorum(self._terms, present)
        require_neighbourhoods(self._terms, self._keepers, present)

    def _require_bound(self) -> None:
        if not self._bound:
            raise ProtocolError("The round is not bound to an adapter.", "Call `bind` first.")

    def _transcript(self) -> bytes:
        return transcript(self._bound, self._roster, self._holders, self._survivors)

    def _add_masked(self, member: int, data: bytes) -> None:
        if member not in self._holders:
            raise ProtocolError(f"Member {member} sent a masked input but never shared.")
        packed = messages.decode_masked(self._bound, member, data)
        add_packed(self._total, packed, self._terms.bits)
        self._survivors.add(member)

    def _open_confirmation(self, member: int, data: bytes) -> bytes:
        if member not in self._survivors:
            raise ProtocolError(f"Member {member} confirmed but is not in the sum.")
        signature = messages.decode_confirmation(self._bound, member, data)
        device = self._roster.devices[member]
        verify(device, signature, self._statement, f"Confirmation of member {member}")
        return signature

    def _open_reveal(self, member: int, data: bytes) -> Revealed:
        if member not in self._confirmed:
            raise ProtocolError(f"Member {member} revealed but did not confirm.")
        shares = messages.decode_reveal(self._bound, member, data)
        expected = {
            peer: SecretKind.SELF_MASK if peer in self._survivors else SecretKind.MASK_KEY
            for peer in self._choosers[member]
        }
        if not {peer: secret for peer, (secret, _) in shares.items()}.items() <= expected.items():
            raise ProtocolError(f"Member {member} revealed shares that were not due.")
        for _, share in shares.values():
            shamir.decode_share(share)
        return shares

    def _unmasking(self, revealed: Mapping[int, Revealed]) -> Unmasking:
        return Unmasking(
            digest=self._digest,
            bound=self._bound,
            threshold=self._terms.threshold,
            roster=self._roster,
            holders=self._holders,
            choosers=self._choosers,
            commitments=self._commitments,
            survivors=self._survivors,
            revealed=revealed,
        )
