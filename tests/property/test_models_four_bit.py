"""What 4 bits can hold comes back to the bit; what they cannot is told apart."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.models.four_bit import GROUP, decode, encode

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 3).map(lambda groups: groups * GROUP))


@st.composite
def rounded(draw):
    """A matrix as a rounding to 4 bits leaves it, signs of zeros included, and its codes' shape."""
    rows, columns = draw(SHAPES)
    codes = draw(arrays.arrays(np.int8, (rows, columns), elements=st.integers(-8, 7)))
    scales = draw(arrays.arrays(np.float16, (rows, columns // GROUP), elements=st.floats(-2, 2, width=16)))
    codes[:, ::GROUP] = -8
    return (np.repeat(scales, GROUP, axis=1).astype(np.float32) * codes.astype(np.float32)).astype(np.float16)


@given(rounded())
def test_a_matrix_that_was_rounded_to_4_bits_comes_back_to_the_bit(matrix):
    packed = encode(matrix)
    assert packed is not None
    assert (packed.codes.shape, packed.codes.dtype) == ((len(matrix), matrix.shape[1] // 2), np.uint8)
    assert (packed.scales.shape, packed.scales.dtype) == ((len(matrix), matrix.shape[1] // GROUP), np.float16)
    np.testing.assert_array_equal(decode(packed).view(np.uint16), matrix.view(np.uint16))


@given(arrays.arrays(np.uint16, SHAPES))
def test_whatever_is_accepted_comes_back_to_the_bit(bits):
    packed = encode(bits.view(np.float16))
    if packed is not None:
        np.testing.assert_array_equal(decode(packed).view(np.uint16), bits)


@given(rounded(), st.data())
def test_one_number_off_is_no_4_bit_matrix(matrix, data):
    row, column = data.draw(st.tuples(st.integers(0, len(matrix) - 1), st.integers(0, matrix.shape[1] - 1)))
    bits = matrix.view(np.uint16)
    bits[row, column] ^= 1
    packed = encode(matrix)
    assert packed is None or (decode(packed).view(np.uint16) == bits).all()


@given(st.sampled_from([(0, 32), (3, 31), (2, 33), (4,), (1, 2, 32)]))
def test_other_shapes_are_left_alone(shape):
    assert encode(np.zeros(shape, np.float16)) is None
