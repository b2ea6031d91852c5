"""Matrices whose numbers are a scale times a code of four bits, kept as codes and scales where nothing is lost by it.

The layout is that of GGML's Q4_0: 32 columns of a row share a scale in fp16, and the number furthest from zero has the
code -8. A matrix that was rounded so once is restored to the last bit, the sign of its zeros included; any other is
told apart, and not touched.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["GROUP", "FourBit", "decode", "encode"]

GROUP = 32
"""Columns that share a scale."""

_GROUPS_AT_ONCE = 8192
_CODES = np.arange(-8, 8, dtype=np.float32)


class FourBit(NamedTuple):
    """A float16[r, c] matrix in 4.5 bits a number.

    Attributes:
        codes: uint8[r, c / 2], code + 8 each; of a group's 16 bytes, the jth holds column j in its low half and j + 16
            in its high one.
        scales: float16[r, c / 32].
    """

    codes: NDArray[np.uint8]
    scales: NDArray[np.float16]


def encode(matrix: NDArray[np.float16]) -> FourBit | None:
    """Codes and scales that `decode` turns back into the same bits, or None where there are none.

    Args:
        matrix: float16[r, c].
    """
    if matrix.ndim != 2 or not matrix.size or matrix.shape[1] % GROUP:
        return None
    groups = matrix.reshape(-1, GROUP)
    codes = np.empty((len(groups), GROUP // 2), np.uint8)
    scales = np.empty(len(groups), np.float16)
    for start in range(0, len(groups), _GROUPS_AT_ONCE):
        block = slice(start, start + _GROUPS_AT_ONCE)
        found = _encode_groups(groups[block])
        if found is None or not np.array_equal(_restored(*found).view(np.uint16), groups[block].view(np.uint16)):
            return None
        codes[block], scales[block] = found
    rows, columns = matrix.shape
    return FourBit(codes.reshape(rows, columns // 2), scales.reshape(rows, columns // GROUP))


def decode(packed: FourBit) -> NDArray[np.float16]:
    """The matrix, float16[r, c]: each code times its scale in fp32, rounded to fp16."""
    rows, half = packed.codes.shape
    codes, scales = packed.codes.reshape(-1, GROUP // 2), packed.scales.reshape(-1)
    matrix = np.empty((len(codes), GROUP), np.float16)
    for start in range(0, len(codes), _GROUPS_AT_ONCE):
        block = slice(start, start + _GROUPS_AT_ONCE)
        matrix[block] = _restored(codes[block], scales[block])
    return matrix.reshape(rows, 2 * half)


def _encode_groups(groups: NDArray[np.float16]) -> tuple[NDArray[np.uint8], NDArray[np.float16]] | None:
    """The only codes and scales that can be meant; None where a number is none, or a code needs more than four bits."""
    if not np.isfinite(groups).all():
        return None
    furthest = groups[np.arange(len(groups)), np.abs(groups).argmax(axis=1)].astype(np.float32)
    scales = (furthest / -8).astype(np.float16)
    scales[furthest == 0] = 0
    divisors = np.where(scales == 0, np.float16(1), scales).astype(np.float32)[:, None]
    # Zero times a code has the code's sign, so that a group of zeros keeps those of its own.
    codes = np.where(scales[:, None] == 0, -np.signbit(groups).astype(np.float32), np.rint(groups / divisors))
    if codes.min() < _CODES[0] or codes.max() > _CODES[-1]:
        return None
    shifted: NDArray[np.uint8] = (codes + 8).astype(np.uint8)
    return shifted[:, : GROUP // 2] | shifted[:, GROUP // 2 :] << np.uint8(4), scales


def _restored(codes: NDArray[np.uint8], scales: NDArray[np.float16]) -> NDArray[np.float16]:
    """Groups of numbers, float16[g, 32], from uint8[g, 16] and float16[g].

    Rounding to fp16 is what takes the time, so the sixteen numbers that a group can hold are rounded, not its 32.
    """
    values = (scales.astype(np.float32)[:, None] * _CODES).astype(np.float16).reshape(-1)
    first = np.arange(0, values.size, len(_CODES), dtype=np.intp)[:, None]
    groups = np.empty((len(codes), GROUP), np.float16)
    groups[:, : GROUP // 2] = values[first + (codes & 15)]
    groups[:, GROUP // 2 :] = values[first + (codes >> 4)]
    return groups
