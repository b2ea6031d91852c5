"""The first k of each question with exact scores, at little more than the cost of a draft.

A draft in half precision scores every candidate; those that can stand among the first k are scored again, exactly, and
exact scores alone decide who stands there, and where: a cascade (Wang et al. 2011) of one model in two precisions.

A candidate stays a draft only when the errors observed make it unlikely to reach the first k. One of draft score d is
missed only if its own error is above T - d, T being the k-th exact score. So it stays a draft only where T - d is above
twice the largest error among the candidates of its question that were scored again: ten or more, read with the same
question by the same model. That is no proof, as an error that was not observed may be of any size. It is a margin of
about four standard deviations at the boundary and wider below it.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Settled", "settle"]

Rows = NDArray[np.intp]
Logits = NDArray[np.float32]
Score = Callable[[Rows], Logits]

_MARGIN = np.float32(2)
"""Times the largest error seen."""
_FEWEST = 10
"""Candidates scored again at least, so that the largest error seen says something of the others'."""
_PAYS = 3
"""Candidates for each one sure to be scored again, above which a draft saves time: it costs more than half of exact
scores on a processor with AVX-512's bf16 products, and some candidates below the first k are scored again too."""


class Settled(NamedTuple):
    """Logits of pairs, those of each question's first k exact.

    Attributes:
        logits: float32[p].
        drafted: bool[p], whether the logit is the draft's. No such pair is among the first k of its question.
    """

    logits: Logits
    drafted: NDArray[np.bool_]


def settle(owners: NDArray[np.integer[Any]], added: Logits, k: int, *, draft: Score, exact: Score) -> Settled:
    """Score pairs so that each question's first k, by logit and what is added to it, are exact.

    A question with few candidates for its k costs no draft: all of them are scored exactly.

    Args:
        owners: integers[p], the question of each pair.
        added: float32[p], added to each logit before a question's pairs are put in order.
        k: how many of each question are to be exact, from 1 up.
        draft: rough logits of some pairs, intp[r] -> float32[r].
        exact: their exact logits, likewise.
    """
    surely = max(k, _FEWEST)
    questions = _by_question(owners)
    drafted = np.zeros(len(owners), np.bool_)
    for rows in questions:
        drafted[rows] = len(rows) > _PAYS * surely
    rough = np.zeros(len(owners), np.float32)
    if drafted.any():
        at = np.flatnonzero(drafted)
        rough[at] = draft(at)
    logits = rough.copy()
    asked = _joined(_first(rows, rough + added, surely) if drafted[rows].any() else rows for rows in questions)
    while len(asked):
        logits[asked] = exact(asked)
        drafted[asked] = False
        asked = _joined(
            rows[_claimants(rough[rows], logits[rows], added[rows], drafted[rows], k)]
            for rows in questions
            if drafted[rows].any()
        )
    return Settled(logits, drafted)


def _first(rows: Rows, scores: Logits, count: int) -> Rows:
    return rows[np.argsort(-scores[rows])[:count]]


def _claimants(rough: Logits, logits: Logits, added: Logits, drafted: NDArray[np.bool_], k: int) -> NDArray[np.bool_]:
    """Which of a question's drafted candidates may belong among its first k, bool[n]."""
    known = ~drafted
    scores = logits + added
    error = np.abs(logits - rough)[known].max()
    kth = np.partition(scores[known], -k)[-k]
    claimants: NDArray[np.bool_] = drafted & (scores + _MARGIN * error >= kth)
    return claimants


def _by_question(owners: NDArray[np.integer[Any]]) -> list[Rows]:
    """The rows of each question, in order."""
    rows = np.argsort(owners, kind="stable")
    return np.split(rows, np.flatnonzero(np.diff(owners[rows])) + 1) if len(rows) else []


def _joined(parts: Iterable[Rows]) -> Rows:
    return np.concatenate([np.empty(0, np.intp), *parts])
