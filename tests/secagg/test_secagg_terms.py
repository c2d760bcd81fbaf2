"""Terms: one encoding, every field in the digest, contradictions named."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from secagg_round import FIVE, with_terms

from common.errors import DecodeError, ProtocolError
from common.secagg import RoundTerms

OTHER = {
    "run": "other-run",
    "round": 4,
    "attempt": 1,
    "adapter": "ac" * 32,
    "seed": 8,
    "dimension": 38,
    "clip": 0.25,
    "bits": 24,
    "levels": 5999,
    "cohort": 6,
    "neighbours": 3,
    "threshold": 4,
    "colluders": 0,
    "training": "ce" * 32,
}


def changed(name: str) -> RoundTerms:
    terms = replace(FIVE, **{name: OTHER[name]})
    return replace(terms, levels=5000) if name == "cohort" else terms


def test_round_trip() -> None:
    assert RoundTerms.decode(FIVE.encode()) == FIVE
    assert len(FIVE.digest()) == 32


def test_every_field_is_in_the_digest() -> None:
    names = [field.name for field in fields(RoundTerms)]
    assert names == list(OTHER)
    assert len({changed(name).digest() for name in names} | {FIVE.digest()}) == len(names) + 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"run": ""},
        {"run": "x" * 129},
        {"run": "rün"},
        {"run": "a b"},
        {"round": -1},
        {"attempt": 2**64},
        {"seed": -1},
        {"adapter": "ab" * 31},
        {"adapter": "AB" * 32},
        {"training": "xyz"},
        {"training": ""},
        {"dimension": 0},
        {"clip": 0.0},
        {"clip": -1.0},
        {"clip": float("nan")},
        {"clip": float("inf")},
        {"bits": 8},
        {"levels": 0},
        {"levels": 6554},  # 5 * 6554 = 2^15 + 2
        {"cohort": 1},
        {"neighbours": 5, "threshold": 4},
        {"threshold": 0},
        {"threshold": 5},
        {"threshold": 2},
        {"colluders": -1},
        {"colluders": 2},
    ],
)
def test_contradictions_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        with_terms(**wrong).validate()
    with pytest.raises(ProtocolError):
        with_terms(**wrong).digest()


def test_largest_levels_are_accepted() -> None:
    with_terms(levels=6553).validate()


@given(st.integers(0, len(FIVE.encode()) - 1))
def test_truncated_terms_are_refused(length: int) -> None:
    with pytest.raises(DecodeError):
        RoundTerms.decode(FIVE.encode()[:length])


def test_trailing_bytes_and_unknown_version_are_refused() -> None:
    encoded = FIVE.encode()
    for wrong in (encoded + b"\0", b"\x02" + encoded[1:], b""):
        with pytest.raises(DecodeError):
            RoundTerms.decode(wrong)


@given(st.binary(max_size=200) | st.binary(max_size=300).map(lambda tail: FIVE.encode() + tail))
def test_whatever_decodes_is_canonical(data: bytes) -> None:
    try:
        terms = RoundTerms.decode(data)
    except ProtocolError:
        return
    assert terms.encode() == data


@given(st.integers(0, 8 * len(FIVE.encode()) - 1))
def test_every_flipped_bit_is_refused_or_is_other_terms(bit: int) -> None:
    encoded = bytearray(FIVE.encode())
    encoded[bit // 8] ^= 1 << bit % 8
    try:
        terms = RoundTerms.decode(bytes(encoded))
    except ProtocolError:
        return
    assert terms != FIVE
    assert terms.encode() == encoded


def test_two_quorums_share_an_honest_member() -> None:
    for k in range(2, 12):
        for t in range(k // 2 + 1, k + 1):
            terms = with_terms(cohort=40, levels=800, neighbours=k, threshold=t, colluders=0)
            for members in range(t + 2, 41):
                degree = terms.degree(members)
                if degree < t:
                    continue
                colluders = 2 * t - degree - 1  # the most that 2t > k + c allows
                in_all = members * colluders // degree
                assert 2 * terms.quorum(members) > members + in_all
                assert terms.quorum(members) <= members
