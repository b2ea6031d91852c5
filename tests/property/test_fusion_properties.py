"""Fusion: bounds, symmetry, monotonicity, ties, and what a weight of 0 or 1 means."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.records import Ranking
from indexes.fusion import convex, reciprocal_rank


def ranking(scores: dict[int, float]) -> Ranking:
    ids = np.array(list(scores), np.int64)
    values = np.array(list(scores.values()), np.float32)
    order = np.lexsort((ids, -values))
    return Ranking(ids[order], values[order])


IDS = st.integers(0, 40)
BM25 = st.dictionaries(IDS, st.floats(0, 60, width=32), max_size=12).map(ranking)
COSINES = st.dictionaries(IDS, st.floats(-1, 1, width=32), max_size=12).map(ranking)
WEIGHTS = st.floats(0, 1)


def as_dict(found: Ranking) -> dict[int, float]:
    return dict(zip(found.ids.tolist(), found.scores.tolist(), strict=True))


def is_ordered(found: Ranking) -> bool:
    order = np.lexsort((found.ids, -found.scores))
    return bool((order == np.arange(len(order))).all())


@given(BM25, COSINES, WEIGHTS)
def test_convex_keeps_every_passage_within_bounds_and_in_order(bm25: Ranking, dense: Ranking, weight: float) -> None:
    found = convex(bm25, dense, weight=weight)
    assert set(found.ids.tolist()) == set(bm25.ids.tolist()) | set(dense.ids.tolist())
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert is_ordered(found)
    assert (found.ids.dtype, found.scores.dtype) == (np.int64, np.float32)


@given(BM25, COSINES, WEIGHTS, st.randoms(use_true_random=False))
def test_convex_does_not_depend_on_the_order_of_its_input(bm25: Ranking, dense: Ranking, weight: float, dice) -> None:
    shuffled = []
    for side in (bm25, dense):
        order = list(range(len(side.ids)))
        dice.shuffle(order)
        shuffled.append(Ranking(side.ids[order], side.scores[order]))
    assert as_dict(convex(*shuffled, weight=weight)) == as_dict(convex(bm25, dense, weight=weight))


@given(st.dictionaries(IDS, st.floats(0, 60, width=32), min_size=1, max_size=12).map(ranking), COSINES)
def test_a_weight_of_zero_gives_the_order_of_bm25(bm25: Ranking, dense: Ranking) -> None:
    found = as_dict(convex(bm25, dense, weight=0))
    for better, worse in zip(bm25.ids.tolist(), bm25.ids.tolist()[1:], strict=False):
        assert found[better] >= found[worse]


@given(BM25, st.dictionaries(IDS, st.floats(-1, 1, width=32), min_size=1, max_size=12).map(ranking))
def test_a_weight_of_one_gives_the_order_of_the_dense_side(bm25: Ranking, dense: Ranking) -> None:
    found = as_dict(convex(bm25, dense, weight=1))
    for better, worse in zip(dense.ids.tolist(), dense.ids.tolist()[1:], strict=False):
        assert found[better] >= found[worse]


@given(BM25, COSINES, WEIGHTS)
def test_better_on_both_sides_is_not_worse_when_fused(bm25: Ranking, dense: Ranking, weight: float) -> None:
    found, lexical, semantic = as_dict(convex(bm25, dense, weight=weight)), as_dict(bm25), as_dict(dense)
    both = sorted(lexical.keys() & semantic.keys())
    for one in both:
        for other in both:
            if lexical[one] >= lexical[other] and semantic[one] >= semantic[other]:
                assert found[one] >= found[other]


@given(BM25, COSINES, WEIGHTS)
def test_filling_in_scores_equals_having_found_them(bm25: Ranking, dense: Ranking, weight: float) -> None:
    known = as_dict(dense) | {int(i): -0.5 for i in bm25.ids if i not in dense.ids}

    def dense_at(ids: np.ndarray) -> np.ndarray:
        return np.array([known[i] for i in ids.tolist()], np.float32)

    filled = convex(bm25, dense, weight=weight, dense_at=dense_at)
    assert as_dict(filled) == as_dict(convex(bm25, ranking(known), weight=weight))


def test_convex_is_the_formula_of_bruch_et_al_with_the_least_cosine_as_floor() -> None:
    found = as_dict(convex(ranking({1: 10, 2: 5}), ranking({2: 0.9, 3: 0.8, 4: 0.7}), weight=0.25))
    assert found == pytest.approx({1: 0.75, 2: 0.25 + 0.75 * 0.5, 3: 0.25 * 0.5, 4: 0.0}, abs=1e-6)


def test_narrow_cosines_weigh_as_much_as_wide_ones() -> None:
    wide, narrow = ({1: 1.0, 2: 0.0, 3: -1.0}, {1: 0.9, 2: 0.85, 3: 0.8})
    lexical = ranking({2: 12, 3: 6})
    found = [as_dict(convex(lexical, ranking(cosines), weight=0.6)) for cosines in (wide, narrow)]
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_an_unknown_score_counts_as_the_least() -> None:
    found = convex(ranking({1: 10}), ranking({2: 0.5}), weight=0.5, dense_at=lambda ids: np.full(len(ids), np.nan))
    assert as_dict(found) == pytest.approx({1: 0.5, 2: 0.5})
    assert found.ids.tolist() == [1, 2]


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_weight_outside_of_its_range_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        convex(ranking({}), ranking({}), weight=weight)


@given(st.lists(BM25, max_size=4), st.integers(0, 100), st.randoms(use_true_random=False))
def test_reciprocal_rank_keeps_every_passage_whatever_the_order_of_rankings(rankings, k: int, dice) -> None:
    found = reciprocal_rank(rankings, k=k)
    assert set(found.ids.tolist()) == {i for each in rankings for i in each.ids.tolist()}
    assert is_ordered(found)
    shuffled = list(rankings)
    dice.shuffle(shuffled)
    assert as_dict(reciprocal_rank(shuffled, k=k)) == as_dict(found)


@given(BM25)
def test_reciprocal_rank_of_one_ranking_is_its_order(one: Ranking) -> None:
    assert reciprocal_rank([one]).ids.tolist() == one.ids.tolist()


def test_reciprocal_rank_is_the_formula_of_cormack_et_al() -> None:
    found = as_dict(reciprocal_rank([ranking({1: 9, 2: 8}), ranking({2: 7})]))
    assert found == pytest.approx({1: 1 / 61, 2: 1 / 62 + 1 / 61})


def test_a_negative_k_is_refused() -> None:
    with pytest.raises(ValueError, match="k is -1"):
        reciprocal_rank([], k=-1)
