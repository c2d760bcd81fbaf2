"""Against Flower: public keys that are not whose the server says, or not of this round.

Flower passes public keys on unsigned, with nothing of the round in them.
"""

from __future__ import annotations

from flwr.common.secure_aggregation.crypto.symmetric_encryption import decrypt, encrypt
from flwr.common.secure_aggregation.secaggplus_utils import (
    share_keys_plaintext_concat,
    share_keys_plaintext_separate,
)
from flwr.supercore.primitives.asymmetric import (
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)

from simulations.evidence.attacks.measure import AttackOutcome, reconstruction, synthetic_update
from simulations.evidence.attacks.on_flower.round import (
    MEMBERS,
    THRESHOLD,
    VICTIM,
    FlowerMember,
    Keys,
    pair_secret,
    read,
    rebuilt,
    strip,
    until_masked,
)

REPLAY_MEMBERS, REPLAY_THRESHOLD = MEMBERS[:5], 3


def swapped_keys() -> AttackOutcome:
    """The server answers the victim in the name of all its peers, with keys of its own."""
    victim = FlowerMember(VICTIM)
    own = victim.setup()
    fakes = {peer: _Fake(own) for peer in MEMBERS if peer != VICTIM}
    keys = {peer: fake.public for peer, fake in fakes.items()} | {VICTIM: own}
    sealed = victim.share(keys)
    shares = [fakes[peer].open(data) for peer, data in sealed.items()]
    masked = victim.mask([(peer, fake.seal(peer)) for peer, fake in fakes.items()])
    pairs = {peer: fake.pair for peer, fake in fakes.items()}
    clear = strip(masked, VICTIM, rebuilt(shares, THRESHOLD), pairs)
    how = f"{len(fakes)} of {len(fakes)} peers were the server"
    return reconstruction(synthetic_update(VICTIM), read(clear), how)


def replayed_keys() -> AttackOutcome:
    """Keys of peers who were named dead in earlier rounds, so that the server knows them by now.

    No member is named both alive and dead in any round.
    """
    members = {node: FlowerMember(node) for node in REPLAY_MEMBERS}
    peers = [node for node in REPLAY_MEMBERS if node != VICTIM]
    old: dict[int, tuple[bytes, bytes]] = {}
    for dead in (peers[:2], peers[2:]):
        old |= _keys_of_the_dead(members, dead)

    def replayed(node: int, keys: dict[int, Keys]) -> dict[int, Keys]:
        fresh = keys if node != VICTIM else {p: (old[p][1], keys[p][1]) for p in peers}
        return keys | fresh

    seen = until_masked(members, REPLAY_THRESHOLD, replayed)
    alive = [member.unmask(REPLAY_MEMBERS, []) for member in members.values()]
    seed = rebuilt([revealed.seeds[VICTIM] for revealed in alive], REPLAY_THRESHOLD)
    pairs = {peer: pair_secret(old[peer][0], seen.keys[VICTIM][0]) for peer in peers}
    clear = strip(seen.masked[VICTIM], VICTIM, seed, pairs)
    how = f"{len(old)} keys of earlier rounds were taken as new"
    return reconstruction(synthetic_update(VICTIM), read(clear), how)


def _keys_of_the_dead(
    members: dict[int, FlowerMember], dead: list[int]
) -> dict[int, tuple[bytes, bytes]]:
    """Private and public mask keys of those whom the server calls dead in an ordinary round."""
    seen = until_masked(members, REPLAY_THRESHOLD)
    alive = [node for node in members if node not in dead]
    revealed = [members[node].unmask(alive, dead) for node in alive]
    return {
        node: (rebuilt([r.keys[node] for r in revealed], REPLAY_THRESHOLD), seen.keys[node][0])
        for node in dead
    }


class _Fake:
    """A peer that the server invents for the victim whose public keys are given."""

    def __init__(self, victim: Keys) -> None:
        (mask, mask_public), (share, share_public) = generate_key_pairs(), generate_key_pairs()
        self.public: Keys = public_key_to_bytes(mask_public), public_key_to_bytes(share_public)
        self.pair = pair_secret(private_key_to_bytes(mask), victim[0])
        self._cipher = pair_secret(private_key_to_bytes(share), victim[1])

    def open(self, sealed: bytes) -> bytes:
        """The share of the victim's seed."""
        return share_keys_plaintext_separate(decrypt(self._cipher, sealed))[2]

    def seal(self, peer: int) -> bytes:
        """Empty shares in the peer's name."""
        return encrypt(self._cipher, share_keys_plaintext_concat(peer, VICTIM, b"", b""))
