"""Rankings of the same passages made one: by a convex combination of scores or by reciprocal rank."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.records import Ranking
from indexes.exact import best_of

__all__ = ["ScoresAt", "convex", "reciprocal_rank", "standardised"]

ScoresAt = Callable[[NDArray[np.int64]], NDArray[np.float32]]

_BM25_FLOOR = 0.0


def convex(
    bm25: Ranking,
    dense: Ranking,
    *,
    weight: float,
    dense_at: ScoresAt | None = None,
) -> Ranking:
    """Fuse by `weight * dense + (1 - weight) * bm25`, each side between 0 and 1.

    A convex combination of normalised scores (Bruch, Gai and Ingber 2022, An Analysis of Fusion Functions for Hybrid
    Retrieval, sections 3 and 4): a score becomes (score - floor) / (maximum - floor), the maximum being the question's
    own. BM25's floor is the theoretical one, 0. The dense side's is the least cosine among the passages fused: an
    encoder such as E5 gives all of them .7 to .9, which above the theoretical floor of -1 is nearly a constant, and a
    weight that mended that would fit no other encoder.

    Args:
        bm25: BM25's passages.
        dense: passages by cosine.
        weight: the dense side's share, from 0 to 1.
        dense_at: cosines of passages (int64[m] -> float32[m]) that only BM25 found; without it they count 0. NaN means
            unknown, which counts as the least.

    Returns:
        Every passage of both sides, with scores from 0 to 1.

    Raises:
        ValueError: a weight outside of 0 to 1.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"weight is {weight}, not from 0 to 1")
    ids = np.union1d(bm25.ids, dense.ids)
    lexical = _normalised(ids, bm25, None, _BM25_FLOOR)
    semantic = _normalised(ids, dense, dense_at, None)
    scores = weight * semantic + (1 - weight) * lexical
    return best_of(ids, scores.astype(np.float32), len(ids))


def reciprocal_rank(rankings: Sequence[Ranking], *, k: int = 60) -> Ranking:
    """Fuse by the sum of 1 / (k + rank), ranks from 1 (Cormack, Clarke and Büttcher 2009, equation 1).

    Args:
        rankings: any number; a passage that one lacks gets nothing from it.
        k: how little the first ranks stand out.

    Returns:
        Every passage of all rankings.

    Raises:
        ValueError: a negative k.
    """
    if k < 0:
        raise ValueError(f"k is {k}, not at least 0")
    ids = np.unique(np.concatenate([np.empty(0, np.int64), *(ranking.ids for ranking in rankings)]))
    # Summed from small to large, so that the order of the rankings cannot show in the last bit.
    shares = np.zeros((len(rankings), len(ids)))
    for share, ranking in zip(shares, rankings, strict=True):
        share[np.searchsorted(ids, ranking.ids)] = 1 / (k + np.arange(1, len(ranking.ids) + 1))
    return best_of(ids, np.sort(shares, axis=0).sum(axis=0).astype(np.float32), len(ids))


def _normalised(
    ids: NDArray[np.int64], ranking: Ranking, scores_at: ScoresAt | None, floor: float | None
) -> NDArray[np.float64]:
    """Scores of `ids` (ascending, all of the ranking's among them) between floor and maximum: float64, 0 to 1.

    What is not known counts 0; without a floor, the least that is known is one.
    """
    scores = np.full(len(ids), np.nan)
    scores[np.searchsorted(ids, ranking.ids)] = ranking.scores
    if scores_at is not None and (missing := ~np.isin(ids, ranking.ids)).any():
        scores[missing] = scores_at(ids[missing])
    known = scores[~np.isnan(scores)]
    if not len(known):
        return np.zeros(len(ids))
    least = known.min() if floor is None else floor
    span = max(known.max() - least, 0.0)
    # Equal cosines tell no passage from another, but all of them from one that is not known.
    shares = (scores - least) / span if span > 0 else np.full(len(ids), 0.0 if floor is not None else 1.0)
    return np.where(np.isnan(scores), 0.0, shares)


def standardised(scores: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Scores less their mean, over their standard deviation, float32[n]; zeros where all are equal."""
    if not len(scores) or not np.ptp(scores):
        return np.zeros(len(scores), np.float32)
    exact = scores.astype(np.float64)
    z: NDArray[np.float32] = ((exact - exact.mean()) / exact.std()).astype(np.float32)
    return z
