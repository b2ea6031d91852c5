"""What 4 bits can hold comes back to the bit; what they cannot is told apart."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.models.four_bit import GROUP, decode, encode

SIZES = {"rows": st.integers(1, 5), "groups": st.integers(1, 3), "seed": st.integers(0, 2**32 - 1)}


def rounded(rows, groups, seed, exponent):
    """A matrix as a rounding to 4 bits leaves it: multiples of scales of either sign, zeros of either sign."""
    random = np.random.default_rng(seed)
    codes = random.integers(-8, 8, (rows, groups, GROUP))
    codes[..., random.integers(GROUP)] = -8
    scales = random.normal(0, 2.0**exponent, (rows, groups, 1)) * random.integers(0, 2, (rows, groups, 1))
    numbers = scales.astype(np.float16).astype(np.float32) * codes.astype(np.float32)
    return numbers.astype(np.float16).reshape(rows, groups * GROUP)


def bits(matrix):
    return matrix.view(np.uint16)


@given(**SIZES, exponent=st.integers(-25, 10))
def test_a_matrix_that_was_rounded_to_4_bits_comes_back_to_the_bit(rows, groups, seed, exponent):
    matrix = rounded(rows, groups, seed, exponent)
    packed = encode(matrix)
    assert packed is not None
    assert (packed.codes.shape, packed.codes.dtype) == ((rows, groups * GROUP // 2), np.uint8)
    assert (packed.scales.shape, packed.scales.dtype) == ((rows, groups), np.float16)
    np.testing.assert_array_equal(bits(decode(packed)), bits(matrix))


@given(**SIZES)
def test_whatever_bits_are_accepted_come_back(rows, groups, seed):
    any_bits = np.random.default_rng(seed).integers(0, 2**16, (rows, groups * GROUP), dtype=np.uint16)
    packed = encode(any_bits.view(np.float16))
    assert packed is None or np.array_equal(bits(decode(packed)), any_bits)


@given(**SIZES, at=st.integers(0, GROUP - 1), flip=st.integers(0, 15))
def test_a_matrix_with_one_bit_flipped_comes_back_so_or_is_told_apart(rows, groups, seed, at, flip):
    matrix = rounded(rows, groups, seed, -5)
    bits(matrix)[-1, -1 - at] ^= np.uint16(1 << flip)
    packed = encode(matrix)
    assert packed is None or np.array_equal(bits(decode(packed)), bits(matrix))


@given(st.sampled_from([(0, 32), (3, 31), (2, 33), (4,), (1, 2, 32)]))
def test_a_matrix_that_is_not_whole_groups_of_32_columns_is_not_encoded(shape):
    assert encode(np.zeros(shape, np.float16)) is None
