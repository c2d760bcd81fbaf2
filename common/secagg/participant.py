"""One member's side of a round: bytes in, bytes out, no I/O.

Bonawitz et al. 2017, figure 4, with neighbours in place of everybody (Bell et al. 2020). Legs run
in one order, each once. Any error leaves the participant dead: its secrets are wiped and nothing
more is revealed.

Call `save` and store the result before a message is sent. A stored state that was already moved
past must never be loaded: it would mask a second vector under the same keys.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from numpy.typing import NDArray

from common.errors import ProtocolError
from common.secagg import messages
from common.secagg._hazmat import keys, prg, shamir
from common.secagg.identity import verify, verify_certificate
from common.secagg.messages import Advert, Inbox, Secret, Shares
from common.secagg.quantize import pack
from common.secagg.roster import (
    Roster,
    advert_statement,
    commitment,
    open_roster,
    require_neighbourhoods,
    require_quorum,
    transcript,
)
from common.secagg.state import Stage, State, decode_state, encode_state
from common.secagg.terms import RoundTerms


class Participant:
    """A member of one round.

    Args:
        terms: The terms; the caller has checked them against its own policy.
        member: Own id, in [0, 2^64).
        identity: The device's enrolled key.
        certificate: The authority's signature over member and device key.
        authority: The enrolment authority's key.
        random: Source of random bytes.

    Raises:
        ProtocolError: Terms contradict themselves, or the certificate is not this member's.
    """

    def __init__(
        self,
        terms: RoundTerms,
        member: int,
        identity: Ed25519PrivateKey,
        certificate: bytes,
        authority: Ed25519PublicKey,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._bind(terms, member, identity, certificate, authority, random)
        self._state = State.fresh(random)

    def __repr__(self) -> str:
        return f"<Participant {self._member} {self._state.stage.name.lower()}>"

    @property
    def masked(self) -> bytes:
        """The masked input again, for a retry with identical bytes.

        Raises:
            ProtocolError: There is none, or the round has moved on.
        """
        if self._state.stage is not Stage.MASKED:
            raise ProtocolError(f"No masked input in stage {self._state.stage.name.lower()}.")
        return self._state.sent

    def advertise(self) -> bytes:
        """The advert: certificate and two round keys, signed over the terms.

        Raises:
            ProtocolError: Called out of order; so for every leg.
        """
        with self._leg(Stage.FRESH, Stage.ADVERTISED):
            public = self._publics()
            statement = advert_statement(self._digest, self._member, *public)
            advert = Advert(*public, self._certificate, self._identity.sign(statement))
            return self._send(messages.encode_advert(self._digest, self._member, advert))

    def share(self, roster: bytes) -> bytes:
        """Check the roster and share own secrets with the neighbours, encrypted to each.

        Raises:
            ProtocolError: Malformed, wrongly signed, or without this member's own keys.
            RoundAbandonedError: Too few members.
        """
        with self._leg(Stage.ADVERTISED, Stage.SHARED):
            self._state.roster = roster
            self._roster = self._open_roster()
            seed_commitment = commitment(self._digest, self._member, self._state.self_seed)
            shares = Shares(seed_commitment, self._seal_shares())
            return self._send(messages.encode_shares(self._digest, self._member, shares))

    def mask(self, inbox: bytes, vector: NDArray[np.uint32]) -> bytes:
        """Mask the vector for the neighbours who shared. One vector in a lifetime.

        Args:
            inbox: The server's inbox message.
            vector: [dimension], elements of the ring.

        Raises:
            ProtocolError: Malformed inbox, shares that do not authenticate, or a vector of
                another type or shape.
            RoundAbandonedError: Too few shared.
        """
        with self._leg(Stage.SHARED, Stage.MASKED):
            if vector.dtype != np.uint32 or vector.shape != (self._terms.dimension,):
                raise ProtocolError(f"Vector is {vector.dtype} {vector.shape}.")
            self._state.inbox = inbox
            opened = self._open_inbox()
            require_quorum(self._terms, self._roster, opened.sharers)
            require_neighbourhoods(self._terms, self._roster, opened.sharers, opened.sharers)
            self._unseal_shares(opened)
            masked = vector.copy()
            self._add_masks(masked, opened)
            packed = pack(masked, self._terms.bits)
            return self._send(messages.encode_masked(self._digest, self._member, packed))

    def confirm(self, survivors: bytes) -> bytes:
        """Sign who is in the sum.

        Raises:
            ProtocolError: Malformed, someone who never shared, or without this member.
            RoundAbandonedError: Too few survivors.
        """
        with self._leg(Stage.MASKED, Stage.CONFIRMED):
            self._state.survivors = survivors
            sharers, alive = self._sharers(), self._survivors()
            if not set(alive) <= set(sharers) or self._member not in alive:
                raise ProtocolError(f"Survivors {alive} are not sharers that include this member.")
            require_quorum(self._terms, self._roster, alive)
            require_neighbourhoods(self._terms, self._roster, sharers, alive)
            signature = self._identity.sign(self._transcript())
            return self._send(messages.encode_confirmation(self._digest, self._member, signature))

    def reveal(self, confirmations: bytes) -> bytes:
        """For each neighbour that shared, its self-mask share or its mask-key share, never both.

        Raises:
            ProtocolError: A signature is not over the very list that this member signed.
            RoundAbandonedError: Too few signed.
        """
        with self._leg(Stage.CONFIRMED, Stage.REVEALED):
            self._verify_confirmations(confirmations)
            shares = self._shares_to_reveal()
            self._state.wipe()
            return self._send(messages.encode_reveal(self._digest, self._member, shares))

    def save(self) -> bytes:
        """The whole state, with private keys: store it encrypted."""
        return encode_state(self._terms, self._member, self._state)

    @classmethod
    def load(
        cls,
        data: bytes,
        identity: Ed25519PrivateKey,
        certificate: bytes,
        authority: Ed25519PublicKey,
        random: Callable[[int], bytes] = os.urandom,
    ) -> "Participant":
        """Go on from what `save` wrote.

        Raises:
            DecodeError: Not exactly one saved state of a known version.
            ProtocolError: The state belongs to another member or authority.
        """
        terms, member, state = decode_state(data)
        participant = cls.__new__(cls)
        participant._bind(terms, member, identity, certificate, authority, random)
        participant._state = state
        if state.roster:
            participant._roster = participant._open_roster()
        return participant

    def _bind(
        self,
        terms: RoundTerms,
        member: int,
        identity: Ed25519PrivateKey,
        certificate: bytes,
        authority: Ed25519PublicKey,
        random: Callable[[int], bytes],
    ) -> None:
        opened = verify_certificate(certificate, authority)
        if opened.member != member or opened.device != identity.public_key():
            raise ProtocolError(f"The certificate is not of member {member} and this device.")
        self._terms, self._digest = terms, terms.digest()
        self._member, self._identity, self._certificate = member, identity, certificate
        self._authority, self._random = authority, random

    @contextmanager
    def _leg(self, before: Stage, after: Stage) -> Iterator[None]:
        """Dead while the leg runs; only its success brings the next stage."""
        stage, self._state.stage = self._state.stage, Stage.DEAD
        try:
            if stage is not before:
                raise ProtocolError(f"Stage is {stage.name.lower()}, not {before.name.lower()}.")
            yield
        except BaseException:
            self._state.wipe()
            raise
        self._state.stage = after

    def _send(self, message: bytes) -> bytes:
        self._state.sent = message
        return message

    def _publics(self) -> tuple[bytes, bytes]:
        state = self._state
        return keys.public_key(state.mask_private), keys.public_key(state.share_private)

    def _open_roster(self) -> Roster:
        roster = open_roster(self._terms, self._authority, self._state.roster)
        own = roster.adverts.get(self._member)
        if own is None or (own.mask_public, own.share_public) != self._publics():
            raise ProtocolError(f"The roster does not hold the keys of member {self._member}.")
        return roster

    def _open_inbox(self) -> Inbox:
        inbox = messages.decode_inbox(self._digest, self._state.inbox)
        sharers = set(inbox.sharers)
        if self._member not in sharers or not sharers <= set(self._roster.adverts):
            raise ProtocolError(f"Sharers {inbox.sharers} do not fit the roster.")
        if set(inbox.sealed) != sharers.intersection(self._roster.graph[self._member]):
            raise ProtocolError(f"Inbox from {list(inbox.sealed)} does not fit who shared.")
        return inbox

    def _sharers(self) -> tuple[int, ...]:
        return self._open_inbox().sharers

    def _survivors(self) -> tuple[int, ...]:
        return messages.decode_survivors(self._digest, self._state.survivors)

    def _share_key(self, peer: int, *, outgoing: bool) -> bytes:
        own, other = self._roster.share_party(self._member), self._roster.share_party(peer)
        secret = keys.agree(self._state.share_private, other.public)
        sender, receiver = (own, other) if outgoing else (other, own)
        return keys.share_key(self._digest, secret, self._roster.digest, sender, receiver)

    def _seal_shares(self) -> dict[int, bytes]:
        holders, threshold = self._roster.graph[self._member], self._terms.threshold
        seeds = shamir.split(self._state.self_seed, holders, threshold, self._random)
        privates = shamir.split(self._state.mask_private, holders, threshold, self._random)
        return {
            peer: keys.seal(
                self._share_key(peer, outgoing=True), seeds[peer] + privates[peer], self._random
            )
            for peer in holders
        }

    def _unseal_shares(self, inbox: Inbox) -> dict[int, bytes]:
        """For each neighbour that shared: its self-mask share, then its mask-key share."""
        return {
            peer: keys.unseal(self._share_key(peer, outgoing=False), sealed)
            for peer, sealed in inbox.sealed.items()
        }

    def _add_masks(self, vector: NDArray[np.uint32], inbox: Inbox) -> None:
        """y_i = x_i + PRG(b_i) + sum over j > i of PRG(s_ij) - sum over j < i of PRG(s_ij)."""
        own = self._roster.mask_party(self._member)
        prg.add_mask(vector, keys.self_mask_key(self._digest, self._state.self_seed, own), +1)
        for peer in inbox.sealed:
            other = self._roster.mask_party(peer)
            key = keys.pair_mask_key(self._digest, self._state.mask_private, own, other)
            prg.add_mask(vector, key, +1 if self._member < peer else -1)

    def _transcript(self) -> bytes:
        return transcript(self._digest, self._roster, self._sharers(), self._survivors())

    def _verify_confirmations(self, data: bytes) -> None:
        signatures = messages.decode_confirmations(self._digest, data)
        if not set(signatures) <= set(self._survivors()):
            raise ProtocolError(f"Confirmed by {list(signatures)}, who are not all survivors.")
        statement = self._transcript()
        for member, signature in signatures.items():
            verify(self._roster.devices[member], signature, statement, f"Confirmation of {member}")
        require_quorum(self._terms, self._roster, signatures)
        require_neighbourhoods(self._terms, self._roster, self._sharers(), signatures)

    def _shares_to_reveal(self) -> dict[int, tuple[Secret, bytes]]:
        survivors, width = set(self._survivors()), shamir.SHARE_BYTES
        return {
            peer: (Secret.SELF_MASK, shares[:width])
            if peer in survivors
            else (Secret.MASK_KEY, shares[width:])
            for peer, shares in self._unseal_shares(self._open_inbox()).items()
        }
