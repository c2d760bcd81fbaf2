"""One member's side of a round: bytes in, bytes out, no I/O.

Bonawitz et al. 2017, figure 4, with holders that each member chooses itself in place of everybody
(Bell et al. 2020, section 4). Legs run in one order, each once. Any error leaves the participant
dead: its secrets are wiped and nothing more is revealed.

The first two legs need no adapter, so those of the next round can run while this one does.

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
from common.secagg._hazmat import keys, prg
from common.secagg.floor import DEFAULT_FLOOR, Floor, require_floor
from common.secagg.graph import choose_holders
from common.secagg.identity import verify_certificate
from common.secagg.messages import Advert, Inbox, SecretKind, Shares
from common.secagg.roster import (
    Roster,
    advert_statement,
    commitment,
    open_confirmations,
    open_roster,
    require_holders,
    require_neighbourhoods,
    require_quorum,
    transcript,
)
from common.secagg.sealing import Sealer
from common.secagg.state import Stage, State, decode_state, encode_state
from common.secagg.terms import RoundTerms, bound_digest


class Participant:
    """A member of one round.

    Args:
        terms: The terms that the server proposes.
        member: Own id, in [0, 2^64).
        identity: The device's enrolled key.
        certificate: The authority's signature over member and device key.
        authority: The enrolment authority's key.
        random: Source of random bytes.
        floor: What this device asks of a round.

    Raises:
        ProtocolError: Terms contradict themselves or are below the floor, or the certificate is
            not this member's.
    """

    def __init__(
        self,
        terms: RoundTerms,
        member: int,
        identity: Ed25519PrivateKey,
        certificate: bytes,
        authority: Ed25519PublicKey,
        random: Callable[[int], bytes] = os.urandom,
        floor: Floor = DEFAULT_FLOOR,
    ) -> None:
        self._enrol(terms, member, identity, certificate, authority, random)
        require_floor(terms, floor)
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
        """Check the roster, choose holders, and share own secrets with them, encrypted to each.

        Raises:
            ProtocolError: Malformed, wrongly signed, or without this member's own keys.
            RoundAbandonedError: Too few members.
        """
        with self._leg(Stage.ADVERTISED, Stage.SHARED):
            self._state.roster = roster
            self._roster = self._open_roster()
            self._state.holders = messages.encode_members(self._choose_holders())
            seed_commitment = commitment(self._digest, self._member, self._state.self_seed)
            holders, threshold = self._holders, self._terms.threshold
            sealed = self._sealer().seal(holders, threshold, self._random)
            shares = Shares(seed_commitment, sealed)
            return self._send(messages.encode_shares(self._digest, self._member, shares))

    def open(self, inbox: bytes) -> bytes:
        """Check an inbox before anything is spent on the round: whose shares do not open.

        Nothing is changed or kept, so that it can be asked any number of times. An inbox that is
        answered here is not refused by `mask`.

        Raises:
            ProtocolError: Malformed, or the lists do not fit; or called out of order.
            RoundAbandonedError: Too few shared.
        """
        if self._state.stage is not Stage.SHARED:
            raise ProtocolError(f"Stage is {self._state.stage.name.lower()}, not shared.")
        sealed = self._checked_inbox(inbox).sealed
        unopened = sealed.keys() - self._sealer().unseal(sealed).keys()
        return messages.encode_opened(self._digest, self._member, unopened)

    def mask(self, inbox: bytes, vector: NDArray[np.uint32], binding: bytes) -> bytes:
        """Mask the vector towards own holders and choosers. One vector in a lifetime.

        A chooser whose shares do not open is masked towards like the others: then the sum is right
        as soon as enough of that member's other holders have its shares.

        Args:
            inbox: The server's inbox message.
            vector: [dimension], elements of the ring; it stays as it is.
            binding: SHA-256 of the published adapter that the vector is an update of, 32 bytes.

        Raises:
            ProtocolError: Malformed inbox, or a vector or binding of another type or shape.
            RoundAbandonedError: Too few shared.
        """
        with self._leg(Stage.SHARED, Stage.MASKED):
            if vector.dtype != np.uint32 or vector.shape != (self._terms.dimension,):
                raise ProtocolError(f"Vector is {vector.dtype} {vector.shape}.")
            self._state.inbox, self._state.binding = inbox, binding
            self._bound = bound_digest(self._digest, binding)
            received = self._checked_inbox(inbox)
            partners = set(self._holders).intersection(received.sharers) | received.sealed.keys()
            masks = self._sealer().masks(self._bound, partners)
            header, bits = messages.masked_header(self._bound, self._member), self._terms.bits
            ring = np.ascontiguousarray(vector)
            return self._send(prg.masked_packed(ring, masks, bits, header))

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
                raise ProtocolError(
                    f"The {len(alive)} survivors are not sharers that include this member."
                )
            self._require_enough(alive)
            signature = self._identity.sign(self._transcript())
            return self._send(messages.encode_confirmation(self._bound, self._member, signature))

    def reveal(self, confirmations: bytes) -> bytes:
        """Reveal one of two shares of each sharer that chose this member and whose shares opened.

        The share of its self-mask seed if it survived, that of its mask key if it dropped.

        Raises:
            ProtocolError: A signature is not over the very lists that this member signed.
            RoundAbandonedError: Too few signed.
        """
        with self._leg(Stage.CONFIRMED, Stage.REVEALED):
            self._verify_confirmations(confirmations)
            shares = self._shares_to_reveal()
            self._state.wipe()
            return self._send(messages.encode_reveal(self._bound, self._member, shares))

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
        """Go on from what `save` wrote; its terms were held against the floor when it was made.

        Raises:
            DecodeError: Not exactly one saved state of a known version.
            ProtocolError: The state belongs to another member or authority.
        """
        terms, member, state = decode_state(data)
        participant = cls.__new__(cls)
        participant._enrol(terms, member, identity, certificate, authority, random)
        participant._state = state
        if state.roster:
            participant._roster = participant._open_roster()
            require_holders(terms, participant._roster, member, participant._holders)
        if state.binding:
            participant._bound = bound_digest(participant._digest, state.binding)
        return participant

    @property
    def _holders(self) -> tuple[int, ...]:
        return messages.decode_members(self._state.holders)

    def _enrol(
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
        """Make the state unusable while the leg runs; only success moves it to the next stage."""
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

    def _sealer(self) -> Sealer:
        return Sealer(self._digest, self._roster, self._member, self._state)

    def _choose_holders(self) -> tuple[int, ...]:
        members = self._roster.adverts
        return choose_holders(self._member, members, self._terms.degree(len(members)), self._random)

    def _checked_inbox(self, data: bytes) -> Inbox:
        inbox = messages.decode_inbox(self._digest, data)
        sharers = frozenset(inbox.sharers)
        if self._member not in sharers or not sharers <= self._roster.adverts.keys():
            raise ProtocolError(f"The {len(sharers)} sharers do not fit the roster.")
        if not inbox.sealed.keys() <= sharers - {self._member}:
            raise ProtocolError(f"Shares of {len(inbox.sealed)} members do not fit who shared.")
        self._require_enough(inbox.sharers)
        return inbox

    def _require_enough(self, present: tuple[int, ...]) -> None:
        require_quorum(self._terms, present)
        require_neighbourhoods(self._terms, {self._member: self._holders}, present)

    def _sharers(self) -> tuple[int, ...]:
        return messages.decode_inbox(self._digest, self._state.inbox).sharers

    def _survivors(self) -> tuple[int, ...]:
        return messages.decode_survivors(self._bound, self._state.survivors)

    def _transcript(self) -> bytes:
        return transcript(self._bound, self._roster, self._sharers(), self._survivors())

    def _verify_confirmations(self, data: bytes) -> None:
        signers = open_confirmations(self._roster, self._bound, self._transcript(), data)
        if not signers <= set(self._survivors()):
            raise ProtocolError(f"Confirmed by {len(signers)}, who are not all survivors.")
        require_quorum(self._terms, signers)

    def _shares_to_reveal(self) -> dict[int, tuple[SecretKind, bytes]]:
        survivors = set(self._survivors())
        inbox = messages.decode_inbox(self._digest, self._state.inbox)
        opened = self._sealer().unseal(inbox.sealed)
        return {
            peer: (SecretKind.SELF_MASK, of_seed)
            if peer in survivors
            else (SecretKind.MASK_KEY, of_key)
            for peer, (of_seed, of_key) in opened.items()
        }
