"""The quantiser against exact rational arithmetic; packing against byte order."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.errors import DecodeError, InputError
from common.secagg import dequantize, from_ring, levels_for, pack, quantize, to_ring, unpack
from common.secagg.quantize import (
    BLOCK,
    add_packed,
    clip_norm,
    quantize_to_ring,
    quantize_towards_zero,
)

bits_of_modulus = st.sampled_from([16, 24, 32])
around_blocks = st.sampled_from(
    [0, 1, 2, 3, 5] + [k * BLOCK + more for k in (1, 2) for more in (-1, 0, 1, 2)]
)
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


@settings(deadline=None)
@given(around_blocks, st.sampled_from([0.3, 2.0, 100.0]), st.integers(0, 99))
def test_blocks_are_as_one_pass_in_double_precision(size: int, clip: float, seed: int) -> None:
    update = np.random.default_rng(seed).standard_normal(size, dtype=np.float32)
    levels = 932_067
    exact = update.astype(np.float64)
    expected = np.rint(np.clip(exact, -clip, clip) * (levels / clip)).astype(np.int32)
    ints, clipped = quantize(update, clip, levels)
    assert np.array_equal(ints, expected)
    assert clipped == np.count_nonzero(np.abs(exact) > clip)


@given(hnp.arrays(np.float32, (2, 3), elements=st.floats(-3, 3, width=32)), bits_of_modulus)
def test_straight_to_the_ring_is_the_same(update, bits: int) -> None:
    levels = levels_for(3, bits)
    ints, clipped = quantize(update, 1.5, levels)
    ring, clipped_to_ring = quantize_to_ring(update, 1.5, levels, bits)
    assert ints.shape == ring.shape == update.shape
    assert np.array_equal(ring, to_ring(ints, bits))
    assert clipped_to_ring == clipped


def test_straight_to_the_ring_over_several_blocks() -> None:
    update = np.random.default_rng(0).standard_normal(2 * BLOCK + 7, dtype=np.float32)
    ints, clipped = quantize(update, 1.0, 1000)
    ring, clipped_to_ring = quantize_to_ring(update, 1.0, 1000, 24)
    assert np.array_equal(ring, to_ring(ints, 24))
    assert clipped_to_ring == clipped > 1000


@pytest.mark.parametrize(
    "task",
    [
        lambda update: quantize(update, 1.0, 10),
        lambda update: quantize_to_ring(update, 1.0, 10, 16),
        lambda update: clip_norm(update, 1.0),
        lambda update: quantize_towards_zero(update, 1.0, 10),
    ],
)
@pytest.mark.parametrize("at", [0, BLOCK - 1, BLOCK, BLOCK + 1])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(task, at: int, bad: float) -> None:
    update = np.zeros(BLOCK + 2, dtype=np.float32)
    update[at] = bad
    with pytest.raises(InputError, match="not finite"):
        task(update)


@pytest.mark.parametrize("clip", [0.0, -1.0, 5e-324, math.nan])
def test_an_impossible_clip_range_is_refused(clip: float) -> None:
    with pytest.raises(InputError, match="cannot stand for"):
        quantize(np.zeros(3, np.float32), clip, 10)


vectors = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 30),
    elements=st.floats(-9, 9, width=32),
)
bounds = st.floats(0.001, 50)


def exact_norm_squared(vector) -> Fraction:
    return sum((Fraction(float(x)) ** 2 for x in vector), Fraction(0))


@given(vectors, bounds)
def test_a_clipped_update_has_the_bound_and_its_direction(update, bound: float) -> None:
    clipped = clip_norm(update, bound)
    assert clipped.dtype == update.dtype
    length = math.sqrt(exact_norm_squared(update))
    expected = update.astype(np.float64) * min(1.0, bound / length if length else 1.0)
    smallest = np.finfo(update.dtype).smallest_subnormal
    rounding = np.finfo(update.dtype).eps * np.abs(expected) * 4 + smallest
    assert (np.abs(clipped - expected) <= rounding).all()


def test_clipping_over_several_blocks() -> None:
    update = np.random.default_rng(0).standard_normal(2 * BLOCK + 7)
    expected = update * (3.0 / np.linalg.norm(update))
    assert np.allclose(clip_norm(update, 3.0), expected, rtol=1e-12, atol=0)
    assert clip_norm(update, 1e6) is update


@given(vectors, bounds, st.integers(1, 2**30))
@example(np.array([30001.0, 225014999.0]), 225015001.0, 225015001)  # a² + b² = levels² + 1
@example(np.array([0.1], np.float32), 0.1, 2**30)  # float32 of 0.1 is above 0.1
@example(np.array([3.0, 4.0]), 5.0, 5)
def test_integers_towards_zero_keep_the_norm(update, bound: float, levels: int) -> None:
    clipped = clip_norm(update, bound)
    ints = quantize_towards_zero(clipped, bound, levels)
    assert sum(int(x) ** 2 for x in ints) <= levels**2
    for x, level in zip(clipped, ints, strict=True):
        exact = Fraction(float(x)) / Fraction(bound) * levels
        slack = Fraction(levels, 2**22)  # the float32 update was that much longer than its bound
        assert abs(int(level)) <= abs(exact) + slack
        assert abs(exact) - abs(int(level)) < 1 + slack
        assert int(level) * exact >= 0


def test_norms_at_the_bound_are_kept_whole() -> None:
    assert quantize_towards_zero(np.array([3.0, -4.0]), 5.0, 10).tolist() == [6, -8]
    assert quantize_towards_zero(np.array([0.0, 7.0]), 7.0, 2**30).tolist() == [0, 2**30]
    shrunk = quantize_towards_zero(np.array([30001.0, 225014999.0]), 225015001.0, 225015001)
    assert shrunk.tolist() == [30000, 225014998]


def test_towards_zero_over_several_blocks() -> None:
    update = np.random.default_rng(0).standard_normal(2 * BLOCK + 7, dtype=np.float32)
    length = float(np.linalg.norm(update.astype(np.float64)))
    ints = quantize_towards_zero(update, length, 2**29)
    expected = np.trunc(update.astype(np.float64) * (2**29 / length))
    assert np.abs(ints - expected).max() <= 1  # a product may lie on either side of an integer
    assert np.count_nonzero(ints != expected) < 10


def test_an_update_longer_than_the_bound_is_refused() -> None:
    with pytest.raises(InputError, match="clip_norm"):
        quantize_towards_zero(np.array([3.0, 4.001]), 5.0, 10)


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


@settings(deadline=None)
@given(bits_of_modulus, around_blocks)
def test_packing_across_blocks(bits: int, size: int) -> None:
    ring = np.arange(size, dtype=np.uint32) * np.uint32(2654435761)
    packed = pack(ring, bits)
    columns = ring.astype("<u4").view(np.uint8).reshape(-1, 4)[:, : bits // 8]
    assert packed == columns.tobytes()
    low = ring & np.uint32(2**bits - 1)
    assert np.array_equal(unpack(packed, bits, size), low)
    total = ring[::-1].copy()
    add_packed(total, memoryview(b"head" + packed)[4:], bits)
    assert np.array_equal(total, ring[::-1] + low)


@given(bits_of_modulus, st.integers(0, 20), st.integers(0, 90))
def test_wrong_length_is_not_added(bits: int, dimension: int, length: int) -> None:
    if length == dimension * bits // 8:
        return
    with pytest.raises(DecodeError):
        add_packed(np.zeros(dimension, np.uint32), bytes(length), bits)
