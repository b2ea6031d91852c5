"""Exact inner products over half-precision segments, in numpy: no copy of the collection, no import of FAISS.

A first pass in single precision finds every row that could be among the best, with the error bound of a dot product
as margin; those few are scored again in double precision and rounded. So a score depends on the two vectors alone,
not on the block or segment a row lies in, and equal vectors tie exactly.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.records import Ranking
from indexes.segment import Segment

__all__ = ["Selection", "best_of", "exact_search", "inner_products", "widen"]

# For a few questions, a block that stays in a core's second-level cache and wakes no thread of BLAS; for many, one so
# large that waiting for those threads, long on a busy machine, is rare.
_BLOCK_VALUES = 1 << 18
_LARGE_BLOCK_VALUES = 1 << 21
_MANY_QUESTIONS = 8
_SCORES_AT_ONCE = 1 << 24
_RESCORED_AT_ONCE = 4096
_LARGEST_NORM = 1.02
_HALF_TO_SINGLE = np.float32(2.0**112)
_SIGN_EXPONENT_MANTISSA = np.int32(-0x70002000)


class Selection(NamedTuple):
    """Rows of a segment to search: all of them, or those of `rows` (int64, ascending)."""

    segment: Segment
    rows: NDArray[np.int64] | None

    @classmethod
    def of(cls, segment: Segment) -> "Selection":
        """All that is not deleted."""
        return cls(segment, segment.live_rows() if len(segment.dead) else None)

    @property
    def size(self) -> int:
        """How many rows are selected."""
        return self.segment.stored.rows if self.rows is None else len(self.rows)


def widen(half: NDArray[np.float16], single: NDArray[np.float32]) -> None:
    """Copy half-precision values to single precision, exactly, five times as fast as numpy's own conversion.

    Shifting moves exponent and mantissa to their places in a single; multiplying by 2^112 mends the exponent's bias,
    for subnormal numbers too. Infinities and NaNs are not preserved: the store holds none.
    """
    bits = single.view(np.int32)
    np.copyto(bits, half.view(np.int16))
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, _SIGN_EXPONENT_MANTISSA, out=bits)
    np.multiply(single, _HALF_TO_SINGLE, out=single)


def inner_products(rows: NDArray[np.float16], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner products of `rows` [m, d] with `vector` [d]: float32[m], each independent of the other rows."""
    scores = np.empty(len(rows), np.float32)
    wide = vector.astype(np.float64)
    for at in range(0, len(rows), _RESCORED_AT_ONCE):
        # Not a matrix product: BLAS may sum a row otherwise when it stands elsewhere in the block.
        scores[at : at + _RESCORED_AT_ONCE] = (rows[at : at + _RESCORED_AT_ONCE] * wide).sum(axis=1)
    return scores


def best_of(ids: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Ranking:
    """The k best, ties by ascending id."""
    order = np.lexsort((ids, -scores))[:k]
    return Ranking(ids[order], scores[order])


def exact_search(selections: Sequence[Selection], vectors: NDArray[np.float32], k: int) -> list[Ranking]:
    """The k rows of largest inner product with each vector.

    Args:
        selections: where to look.
        vectors: float32[q, d].
        k: at least 1.

    Returns:
        A ranking for each vector, of min(k, rows selected) passages.

    Raises:
        CollectionDamaged: a page read does not match its checksum.
    """
    selections = [selection for selection in selections if selection.size]
    total = sum(selection.size for selection in selections)
    if not total:
        return [Ranking(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in vectors]
    rankings: list[Ranking] = []
    step = max(1, _SCORES_AT_ONCE // total)
    for at in range(0, len(vectors), step):
        batch = vectors[at : at + step]
        for vector, scores in zip(batch, _score_all(selections, batch, total), strict=True):
            rankings.append(_rescore(selections, vector, scores, k))
    return rankings


def _score_all(selections: Sequence[Selection], vectors: NDArray[np.float32], total: int) -> NDArray[np.float32]:
    """Single-precision scores of every selected row, in the order of the selections: float32[q, total]."""
    width = vectors.shape[1]
    step = max(64, (_BLOCK_VALUES if len(vectors) < _MANY_QUESTIONS else _LARGE_BLOCK_VALUES) // width)
    scores = np.empty((len(vectors), total), np.float32)
    buffer = np.empty((step, width), np.float32)
    column = 0
    for segment, rows in selections:
        stored: NDArray[Any] = segment.file.arrays["values"]
        if rows is None:
            segment.file.checked("values")
        else:
            segment.file.check_rows("values", rows, rows + 1)
        for first in range(0, len(stored), step):
            half = stored[first : first + step]
            here = None if rows is None else _within(rows, first, first + step) - first
            columns = len(half) if here is None else len(here)
            if not columns:
                continue
            # Picking rows costs more than computing a product too many, until half of them are unwanted.
            pick_first = here is not None and 2 * columns < len(half)
            if pick_first:
                half = half[here]
            single = buffer[: len(half)]
            widen(half, single)
            products = vectors @ single.T
            scores[:, column : column + columns] = products if here is None or pick_first else products[:, here]
            column += columns
    return scores


def _within(rows: NDArray[np.int64], first: int, last: int) -> NDArray[np.int64]:
    """Those of `rows` (ascending) from `first` to `last`, exclusive."""
    return rows[np.searchsorted(rows, first) : np.searchsorted(rows, last)]


def _rescore(
    selections: Sequence[Selection], vector: NDArray[np.float32], scores: NDArray[np.float32], k: int
) -> Ranking:
    k = min(k, len(scores))
    threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
    # Higham, Accuracy and Stability of Numerical Algorithms, 3.1: a dot product errs by at most d u |x| |y|; the
    # k-th best and the row compared with it may each err by that much.
    margin = 2 * len(vector) * 2.0**-24 * _LARGEST_NORM * float(np.linalg.norm(vector))
    columns = np.flatnonzero(scores >= threshold - np.float32(margin))
    ids, exact, start = [], [], 0
    for segment, rows in selections:
        count = segment.stored.rows if rows is None else len(rows)
        here = _within(columns, start, start + count) - start
        start += count
        if len(here):
            places = here if rows is None else rows[here]
            ids.append(segment.ids[places])
            exact.append(inner_products(segment.rows(places), vector))
    return best_of(np.concatenate(ids), np.concatenate(exact), k)
