"""Terms: one encoding, every field in the digest, contradictions named."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from secagg_round import FIVE, with_terms

from common.errors import DecodeError, ProtocolError
from common.secagg import RoundTerms
from common.secagg.terms import bound_digest

OTHER = {
    "run": "other-run",
    "round": 4,
    "attempt": 1,
    "seed": 8,
    "dimension": 38,
    "clip": 0.25,
    "bits": 24,
    "levels": 5999,
    "noise": 2.5,
    "cohort": 6,
    "least": 5,
    "corrupt": 2,
    "neighbours": 3,
    "threshold": 4,
    "colluders": 0,
    "training": "ce" * 32,
    "log_size": 10,
    "log_head": "ac" * 32,
}
ALONG = {  # what else must change for the terms to stay valid
    "cohort": {"levels": 5000},
    "corrupt": {"least": 5},
    "threshold": {"least": 5},
    "noise": {"levels": 6500},
}


def changed(name: str) -> RoundTerms:
    return replace(FIVE, **{name: OTHER[name]}, **ALONG.get(name, {}))


def test_round_trip() -> None:
    assert RoundTerms.decode(FIVE.encode()) == FIVE
    assert len(FIVE.digest()) == 32


def test_every_field_is_in_the_digest() -> None:
    names = [field.name for field in fields(RoundTerms)]
    assert names == list(OTHER)
    for name in names:
        assert changed(name).digest() != replace(FIVE, **ALONG.get(name, {})).digest()


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
        {"training": "xyz"},
        {"training": ""},
        {"log_size": 0},  # with a head
        {"log_size": 2**64},
        {"log_head": ""},
        {"log_head": "ab" * 31},
        {"log_head": "AB" * 32},
        {"dimension": 0},
        {"clip": 0.0},
        {"clip": -1.0},
        {"clip": float("nan")},
        {"clip": float("inf")},
        {"bits": 8},
        {"levels": 0},
        {"levels": 6554},  # 5 * 6554 = 2^15 + 2
        {"noise": -0.0},
        {"noise": -2.0},
        {"noise": 1.999},
        {"noise": float("nan")},
        {"noise": float("inf")},
        {"noise": 1e308},
        {"noise": 500.0},  # with a margin of 8,949 for it
        {"cohort": 1},
        {"cohort": 2**32},
        {"least": 6},
        {"least": 3},  # 2 x 3 = 5 + 1
        {"least": 3, "corrupt": 0, "colluders": 0},  # the threshold leaves nobody to share
        {"corrupt": -1},
        {"corrupt": 3},
        {"corrupt": 0},  # fewer than the colluders
        {"neighbours": 5, "threshold": 4},
        {"threshold": 0},
        {"threshold": 5},
        {"threshold": 2},
        {"colluders": -1},
        {"colluders": 2},
        {"colluders": 2, "corrupt": 2, "least": 5},
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
    for wrong in (encoded + b"\0", b"\x01" + encoded[1:], b""):
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
    """Whatever the terms allow, two lists of `least` signers overlap in more than the corrupt."""
    allowed = 0
    for cohort in range(3, 30):
        for least in range(2, cohort + 1):
            for corrupt in range(cohort):
                terms = with_terms(
                    cohort=cohort,
                    least=least,
                    corrupt=corrupt,
                    levels=1000,
                    neighbours=1,
                    threshold=1,
                    colluders=0,
                )
                try:
                    terms.validate()
                except ProtocolError:
                    continue
                allowed += 1
                assert least + least - cohort > corrupt
    assert allowed > 1000


def test_degree_is_that_of_a_smaller_roster() -> None:
    assert [FIVE.degree(members) for members in (4, 5)] == [3, 4]
    assert [with_terms(neighbours=3).degree(members) for members in (4, 5)] == [3, 3]


def test_binding_changes_the_digest() -> None:
    digests = {bound_digest(terms, bytes([fill]) * 32) for terms in (b"a", b"b") for fill in (1, 2)}
    assert len(digests) == 4
    for wrong in (b"", bytes(31), bytes(33)):
        with pytest.raises(ProtocolError, match="binding"):
            bound_digest(FIVE.digest(), wrong)
