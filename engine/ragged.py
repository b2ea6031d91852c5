"""Arrays of positions: rows of unequal length, laid end to end, and what stands among ascending numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["among", "offsets_of", "ranges"]


def offsets_of(lengths: Sequence[int] | NDArray[np.integer[Any] | np.bool_]) -> NDArray[np.int64]:
    """Where each of n rows begins, then the total: int64[n + 1]."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def ranges(starts: NDArray[np.integer[Any]] | int, lengths: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """The positions `starts[i] ... starts[i] + lengths[i] - 1`, end to end: int64[sum of lengths]."""
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)


def among(wanted: NDArray[np.integer[Any]], known: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Which of `wanted` stand in `known`, which is ascending and may be far longer: bool[m]."""
    if not len(known):
        return np.zeros(len(wanted), np.bool_)
    found: NDArray[np.bool_] = known[np.minimum(np.searchsorted(known, wanted), len(known) - 1)] == wanted
    return found
