"""Primitives against published vectors, and Shamir against its definition."""

from itertools import combinations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from secagg_round import stream

from common.errors import ProtocolError
from common.secagg._hazmat import keys, prg, shamir
from common.secagg._hazmat.keys import Party
from common.secagg.identity import device_key
from common.secagg.quantize import BLOCK, pack

# RFC 7748 section 6.1
ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
ALICE_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
BOB_PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
ALICE_KEY = keys.private_key(ALICE)
SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")

TERMS = bytes(range(32))
ROSTER = bytes(range(32, 64))
PRIME = 2**521 - 1


def agree(private: bytes, public: bytes) -> bytes:
    return keys.agree(keys.private_key(private), public)


def test_x25519_rfc_7748() -> None:
    assert keys.public_key(ALICE) == ALICE_PUBLIC
    assert keys.public_key(BOB) == BOB_PUBLIC
    assert agree(ALICE, BOB_PUBLIC) == agree(BOB, ALICE_PUBLIC) == SHARED


def test_hkdf_rfc_5869_case_1() -> None:
    okm = keys._derive(bytes(range(13)), b"\x0b" * 22, bytes(range(0xF0, 0xFA)))
    assert okm.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"


def test_mask_stream_is_aes_256_ctr() -> None:
    # AES-256 of the counters 0, 1, 2 under the zero key: H of case 13, tag of case 13 and
    # ciphertext of case 14 of the GCM specification (McGrew and Viega).
    blocks = (
        "dc95c078a2408989ad48a21492842087"
        "530f8afbc74536b9a963b4f1c4cb738b"
        "cea7403d4d606b6e074ec5d3baf39d18"
    )
    vector = np.zeros(12, dtype=np.uint32)
    prg.add_masks(vector, [(bytes(32), +1)])
    assert vector.astype("<u4").tobytes().hex() == blocks


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31)])
def test_low_order_key_is_refused(public: bytes) -> None:
    with pytest.raises(ProtocolError, match="low order"):
        keys.require_contributory(public)


@pytest.mark.parametrize("bit", [255, None])
def test_second_spelling_of_an_x25519_key_is_refused(bit: int | None) -> None:
    """It agrees on the same secret, so a roster would hold one key twice."""
    number = 9 if bit is None else int.from_bytes(ALICE_PUBLIC, "little")
    other = (number + (2**255 - 19 if bit is None else 2**bit)).to_bytes(32, "little")
    own = number.to_bytes(32, "little")
    assert agree(ALICE, other) == agree(ALICE, own)
    keys.require_contributory(own)
    with pytest.raises(ProtocolError, match="one spelling"):
        keys.require_contributory(other)


ORDER_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
OTHER_ORDER_8 = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"


@pytest.mark.parametrize("sign", [0, 0x80])
@pytest.mark.parametrize(
    "y", ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", ORDER_8, OTHER_ORDER_8]
)
def test_device_key_of_small_order_is_refused(y: str, sign: int) -> None:
    """All points of small order of the curve. Some verify a signature that nobody made."""
    key = bytearray.fromhex(y)
    key[31] |= sign
    with pytest.raises(ProtocolError, match="small order"):
        device_key(bytes(key))


def test_a_signature_that_nobody_made_holds_under_a_key_of_small_order() -> None:
    forged = b"\x01" + bytes(63)  # R neutral, S = 0
    Ed25519PublicKey.from_public_bytes(b"\x01" + bytes(31)).verify(forged, b"anything")


@pytest.mark.parametrize("y", ["ed" + "ff" * 30 + "7f", "ee" + "ff" * 30 + "7f", "ff" * 32])
def test_second_spelling_of_a_device_key_is_refused(y: str) -> None:
    with pytest.raises(ProtocolError, match="one spelling"):
        device_key(bytes.fromhex(y))


def test_pair_key_is_symmetric_and_bound_to_everything() -> None:
    alice, bob = Party(5, ALICE_PUBLIC), Party(9, BOB_PUBLIC)
    key = keys.pair_mask_key(TERMS, ALICE_KEY, alice, bob)
    assert key == keys.pair_mask_key(TERMS, keys.private_key(BOB), bob, alice)
    others = {
        keys.pair_mask_key(bytes(32), ALICE_KEY, alice, bob),
        keys.pair_mask_key(TERMS, ALICE_KEY, Party(4, ALICE_PUBLIC), bob),
        keys.pair_mask_key(TERMS, ALICE_KEY, alice, Party(10, BOB_PUBLIC)),
        keys.self_mask_key(TERMS, SHARED, alice),
        keys.share_key(TERMS, SHARED, ROSTER, alice, bob),
        keys.share_key(TERMS, SHARED, ROSTER, bob, alice),
        keys.share_key(TERMS, SHARED, bytes(32), alice, bob),
    }
    assert len(others | {key}) == 8


def test_altered_ciphertext_does_not_open() -> None:
    sealed = keys.seal(TERMS, b"share", stream("nonce"))
    assert keys.unseal(TERMS, sealed) == b"share"
    for at in range(len(sealed)):
        altered = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(ProtocolError):
            keys.unseal(TERMS, altered)


def key_stream(key: bytes, size: int) -> np.ndarray:
    """AES-256-CTR from counter 0 in one call, as [size] words."""
    cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(cipher.update(bytes(4 * size)), dtype="<u4").astype(np.uint32)


def start_vector(size: int) -> np.ndarray:
    return np.arange(size, dtype=np.uint32) * np.uint32(2654435761)


around_blocks = st.sampled_from(
    [0, 1, 3, 4, 5] + [k * BLOCK + more for k in (1, 2) for more in (-1, 0, 1, 2)]
)
signed_keys = st.lists(
    st.tuples(st.binary(min_size=32, max_size=32), st.sampled_from([+1, -1])), max_size=5
)


@settings(deadline=None)
@given(around_blocks, signed_keys)
def test_masks_are_the_key_streams_mod_2_32(size: int, masks) -> None:
    expected = start_vector(size)
    for key, sign in masks:
        expected += key_stream(key, size) * np.uint32(sign % 2**32)
    vector = start_vector(size)
    prg.add_masks(vector, masks)
    assert np.array_equal(vector, expected)
    prg.add_masks(vector, [(key, -sign) for key, sign in masks])
    assert np.array_equal(vector, start_vector(size))


@settings(deadline=None)
@given(around_blocks, signed_keys, st.sampled_from([16, 24, 32]), st.binary(max_size=9))
def test_masked_and_packed_in_one_pass(size: int, masks, bits: int, header: bytes) -> None:
    expected = start_vector(size)
    prg.add_masks(expected, masks)
    ring = start_vector(size)
    assert prg.masked_packed(ring, masks, bits, header) == header + pack(expected, bits)
    assert np.array_equal(ring, start_vector(size))  # not modified


@pytest.mark.parametrize("extra", [-1, 0, 1, prg._OPEN + 1])
def test_more_masks_than_open_ciphers(extra: int) -> None:
    masks = [(number.to_bytes(32, "big"), +1) for number in range(prg._OPEN + extra)]
    ring = start_vector(10)
    expected = start_vector(10) + sum(key_stream(key, 10) for key, _ in masks)
    assert prg.masked_packed(ring, masks, 32) == expected.astype("<u4").tobytes()
    assert np.array_equal(ring, start_vector(10))
    prg.add_masks(ring, masks)
    assert np.array_equal(ring, expected)


def test_no_block_of_a_mask_repeats() -> None:
    vector = np.zeros(4 * BLOCK, dtype=np.uint32)
    prg.add_masks(vector, [(TERMS, +1)])
    pairs = vector.size**2 / 2**33  # expected number of equal pairs of random words: 2
    assert len(np.unique(vector)) > vector.size - 20 * pairs


holders_and_threshold = st.lists(
    st.integers(0, 2**64 - 1), min_size=1, max_size=9, unique=True
).flatmap(lambda holders: st.tuples(st.just(holders), st.integers(1, len(holders))))


@given(st.binary(min_size=32, max_size=32), holders_and_threshold, st.randoms())
def test_any_threshold_of_shares_recovers(secret, setting, random) -> None:
    holders, threshold = setting
    shares = shamir.split(secret, holders, threshold, random.randbytes)
    assert {len(share) for share in shares.values()} == {66}
    for chosen in list(combinations(holders, threshold))[:20]:
        assert shamir.combine({holder: shares[holder] for holder in chosen}) == secret


def interpolate(points: dict[int, int], x: int) -> int:
    """The polynomial through the points at x, by Neville's scheme mod the prime."""
    xs, values = list(points), list(points.values())
    for width in range(1, len(xs)):
        for low in range(len(xs) - width):
            high = low + width
            top = (x - xs[high]) * values[low] - (x - xs[low]) * values[low + 1]
            values[low] = top * pow(xs[low] - xs[high], -1, PRIME) % PRIME
    return values[0]


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.randoms())
def test_fewer_shares_fit_every_secret(secret, candidate, random) -> None:
    holders = [4, 7, 2**64 - 1, 0, 12]
    shares = shamir.split(secret, holders, 4, random.randbytes)
    known = {holder + 1: int.from_bytes(shares[holder], "big") for holder in holders[:3]}
    missing = interpolate({0: int.from_bytes(candidate, "big"), **known}, 0 + 1)
    held = {holder: shares[holder] for holder in holders[:3]}
    assert shamir.combine({**held, 0: missing.to_bytes(66, "big")}) == candidate


def test_fresh_coefficients_for_every_secret() -> None:
    random = stream("shamir")
    one = shamir.split(bytes(32), [1, 2, 3], 2, random)
    two = shamir.split(bytes(32), [1, 2, 3], 2, random)
    assert not set(one.values()) & set(two.values())


@pytest.mark.parametrize("share", [b"", bytes(65), bytes(67), PRIME.to_bytes(66, "big")])
def test_malformed_share_is_refused(share: bytes) -> None:
    with pytest.raises(ProtocolError):
        shamir.combine({1: share, 2: bytes(66)})


def test_unrelated_shares_are_refused() -> None:
    random = stream("unrelated")
    with pytest.raises(ProtocolError, match="belong together"):
        shamir.combine({holder: bytes(1) + random(65) for holder in (1, 2, 3)})


@pytest.mark.parametrize(("holders", "threshold"), [([1, 2], 3), ([1, 1], 2), ([1], 0)])
def test_impossible_threshold_is_refused(holders: list[int], threshold: int) -> None:
    with pytest.raises(ProtocolError, match="Threshold"):
        shamir.split(bytes(32), holders, threshold, stream("x"))
