"""Rows of unequal length, laid end to end: where each begins, and the positions that some of them take."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["offsets_of", "ranges"]


def offsets_of(lengths: Sequence[int] | NDArray[np.integer[Any] | np.bool_]) -> NDArray[np.int64]:
    """Where each of n rows begins, then the total: int64[n + 1]."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def ranges(starts: NDArray[np.integer[Any]] | int, lengths: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """The positions `starts[i] ... starts[i] + lengths[i] - 1`, end to end: int64[sum of lengths]."""
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
