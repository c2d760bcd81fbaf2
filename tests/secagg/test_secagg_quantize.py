"""The quantiser against exact rational arithmetic; packing against byte order."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.errors import DecodeError, InputError
from common.secagg import dequantize, from_ring, levels_for, pack, quantize, to_ring, unpack

bits_of_modulus = st.sampled_from([16, 24, 32])
floats32 = hnp.arrays(np.float32, st.integers(0, 40), elements=st.floats(-10, 10, width=32))


@given(floats32, st.floats(0.01, 5), st.integers(1, 2**24))
def test_each_coordinate_is_the_nearest_level(update, clip, levels) -> None:
    ints, clipped = quantize(update, clip, levels)
    assert ints.dtype == np.int32
    assert clipped == sum(abs(Fraction(float(x))) > Fraction(clip) for x in update)
    for x, level in zip(update, ints, strict=True):
        exact = Fraction(float(np.clip(float(x), -clip, clip))) / Fraction(clip) * levels
        assert abs(int(level)) <= levels
        assert abs(int(level) - exact) <= Fraction(1, 2) + Fraction(levels, 2**51)


@given(floats32, st.floats(0.5, 5), st.integers(1, 2**20))
def test_dequantize_is_within_half_a_level(update, clip, levels) -> None:
    back = dequantize(quantize(update, clip, levels)[0], clip, levels)
    error = np.abs(back - np.clip(update.astype(np.float64), -clip, clip))
    assert (error <= clip / levels * 0.5 * (1 + 1e-9)).all()


def test_known_values() -> None:
    update = np.array([0.0, 0.5, -0.5, 0.25, 0.125, -0.375, 9.0, -9.0], dtype=np.float32)
    ints, clipped = quantize(update, 0.5, 4)
    assert ints.tolist() == [0, 4, -4, 2, 1, -3, 4, -4]
    assert clipped == 2


def test_halves_go_to_even() -> None:
    ints, _ = quantize(np.array([0.5, 1.5, 2.5, -0.5, -1.5]), 4.0, 4)
    assert ints.tolist() == [0, 2, 2, 0, -2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(InputError, match="not finite"):
        quantize(np.array([0.0, bad]), 1.0, 10)


@given(bits_of_modulus, st.integers(1, 5000))
def test_largest_levels_do_not_wrap(bits: int, cohort: int) -> None:
    levels = levels_for(cohort, bits)
    assert cohort * levels < 2 ** (bits - 1) <= cohort * (levels + 1)


def test_too_large_a_cohort_is_refused() -> None:
    with pytest.raises(InputError):
        levels_for(40_000, 16)


@given(bits_of_modulus, st.integers(1, 30), st.randoms(use_true_random=False))
def test_the_sum_in_the_ring_is_the_sum(bits: int, cohort: int, random) -> None:
    levels = levels_for(cohort, bits)
    vectors = [
        np.array([random.choice([-levels, levels, random.randint(-levels, levels)])], np.int32)
        for _ in range(cohort)
    ]
    total = np.zeros(1, np.uint32)
    for vector in vectors:
        total += to_ring(vector, bits)
    assert from_ring(total, bits).tolist() == [sum(int(v[0]) for v in vectors)]


@given(bits_of_modulus, st.data())
def test_ring_is_the_residue(bits: int, data) -> None:
    value = data.draw(st.integers(-(2**40), 2**40))
    ring = to_ring(np.array([value]), bits)
    assert ring.dtype == np.uint32
    assert int(ring[0]) == value % 2**bits


@given(bits_of_modulus, hnp.arrays(np.uint32, st.integers(0, 50)))
def test_packing_keeps_the_low_bits_little_endian(bits: int, ring) -> None:
    packed = pack(ring, bits)
    width = bits // 8
    assert packed == b"".join((int(x) % 2**bits).to_bytes(width, "little") for x in ring)
    assert unpack(packed, bits, ring.size).tolist() == [int(x) % 2**bits for x in ring]


@given(bits_of_modulus, st.integers(0, 20), st.integers(0, 90))
def test_wrong_length_is_refused(bits: int, dimension: int, length: int) -> None:
    if length == dimension * bits // 8:
        return
    with pytest.raises(DecodeError):
        unpack(bytes(length), bits, dimension)
