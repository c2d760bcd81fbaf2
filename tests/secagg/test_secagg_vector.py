"""The worked round of SPEC.md, and the masks recomputed from SPEC.md without the package."""

import hashlib
import hmac
import json
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from secagg_round import FIVE, FIVE_MEMBERS, drive, participant, plain_sum, vector

VECTOR = json.loads((Path(__file__).parent / "vectors" / "round.json").read_text())
DROPS = {10: 2}  # member 10 shares, then drops


def hkdf(salt: bytes, secret: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block."""
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def mask(key: bytes, dimension: int) -> np.ndarray:
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(4 * dimension)), "<u4").astype(np.int64)


def test_masked_input_is_the_formula_of_the_paper() -> None:
    """y_i = x_i + PRG(b_i) + sum over j > i of PRG(s_ij) - sum over j < i of PRG(s_ij)."""
    outcome = drive(FIVE, FIVE_MEMBERS, {})
    salt = hashlib.sha256(b"privity/secagg/v1/terms\x00" + FIVE.encode()).digest()
    private = {m: participant(FIVE, m)._state.mask_private for m in FIVE_MEMBERS}
    keys = {m: X25519PrivateKey.from_private_bytes(raw) for m, raw in private.items()}
    public = {m: key.public_key().public_bytes_raw() for m, key in keys.items()}
    for i in FIVE_MEMBERS:
        name = i.to_bytes(8, "big") + public[i]
        seed = participant(FIVE, i)._state.self_seed
        total = vector(FIVE, i) + mask(
            hkdf(salt, seed, b"privity/secagg/v1/self-mask\0" + name), 37
        )
        for j in set(FIVE_MEMBERS) - {i}:
            low, high = sorted((i, j))
            info = b"".join(m.to_bytes(8, "big") + public[m] for m in (low, high))
            secret = keys[i].exchange(X25519PublicKey.from_public_bytes(public[j]))
            key = hkdf(salt, secret, b"privity/secagg/v1/pair-mask\0" + info)
            total += mask(key, 37) if i < j else -mask(key, 37)
        expected = b"".join(int(y % 2**16).to_bytes(2, "little") for y in total)
        assert outcome.sent[2][i][34 + 8 :] == expected


def test_the_worked_round() -> None:
    """Bytes are pinned: a change that breaks old peers must change the version."""
    outcome = drive(FIVE, FIVE_MEMBERS, DROPS)
    assert FIVE.encode().hex() == VECTOR["terms"]
    assert FIVE.digest().hex() == VECTOR["terms_digest"]
    for leg, sent in zip(VECTOR["legs"], outcome.sent, strict=True):
        got = {str(m): hashlib.sha256(message).hexdigest() for m, message in sent.items()}
        assert got == leg
    assert outcome.survivors == {3, 11, 200, 2**64 - 1}
    assert outcome.total.tolist() == VECTOR["sum"] == plain_sum(FIVE, outcome.survivors).tolist()
