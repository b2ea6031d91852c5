"""The first k after a draft are those of exact scoring, as long as no error is above twice the largest one seen."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.models.draft import Settled, settle

NEAR = st.floats(-3, 3, width=32)


class Question(NamedTuple):
    """Candidates of one question: exact logits, what is added to them, and the draft's errors."""

    exact: np.ndarray
    added: np.ndarray
    errors: np.ndarray


@st.composite
def questions(draw: st.DrawFn, least_error: float) -> list[Question]:
    """Up to three questions whose errors lie between a share of the largest one and the largest one, of either sign."""
    found = []
    for size in draw(st.lists(st.integers(1, 90), min_size=1, max_size=3)):
        random = np.random.default_rng(draw(st.integers(0, 2**32)))
        largest = draw(st.sampled_from([0.0, 0.01, 0.5, 4.0]))
        exact = random.choice([random.normal(0, 1, size), random.integers(0, 4, size).astype(float)])
        errors = random.uniform(least_error, 1, size) * largest * random.choice([-1, 1], size)
        added = random.normal(0, draw(st.sampled_from([0.0, 1.0])), size)
        found.append(Question(*(values.astype(np.float32) for values in (exact, added, errors))))
    return found


class Model:
    """Scores pairs of several questions in a shuffled order, and counts how often each was scored exactly."""

    def __init__(self, asked: list[Question], seed: int) -> None:
        sizes = [len(question.exact) for question in asked]
        shuffled = np.random.default_rng(seed).permutation(sum(sizes))
        self.owners = np.repeat(np.arange(len(asked)), sizes)[shuffled]
        self.logits, self.added, self.errors = (np.concatenate(values)[shuffled] for values in zip(*asked, strict=True))
        self.scored = np.zeros(len(self.owners), int)
        self.drafted = np.zeros(len(self.owners), int)

    def draft(self, rows: np.ndarray) -> np.ndarray:
        self.drafted[rows] += 1
        return self.logits[rows] + self.errors[rows]

    def exact(self, rows: np.ndarray) -> np.ndarray:
        self.scored[rows] += 1
        return self.logits[rows]

    def settle(self, k: int) -> Settled:
        return settle(self.owners, self.added, k, draft=self.draft, exact=self.exact)


@given(questions(least_error=0.51), st.integers(1, 25), st.integers(0, 99))
def test_the_first_k_are_those_of_exact_scoring(asked: list[Question], k: int, seed: int) -> None:
    # Whatever was seen is above half of the largest error, so that twice the largest one seen bounds them all.
    model = Model(asked, seed)
    settled = model.settle(k)
    for question in range(len(asked)):
        rows = np.flatnonzero(model.owners == question)
        wanted = model.logits[rows] + model.added[rows]
        found = settled.logits[rows] + model.added[rows]
        best, first = (np.lexsort((rows, -scores))[:k] for scores in (wanted, found))
        assert first.tolist() == best.tolist()
        assert settled.logits[rows[first]].tolist() == model.logits[rows[best]].tolist()


@given(questions(least_error=0.0), st.integers(1, 25), st.integers(0, 99))
def test_whatever_the_errors_no_draft_stands_among_the_first_k(asked: list[Question], k: int, seed: int) -> None:
    model = Model(asked, seed)
    settled = model.settle(k)
    np.testing.assert_array_equal(settled.drafted, model.scored == 0)
    np.testing.assert_array_equal(settled.logits, np.where(settled.drafted, model.logits + model.errors, model.logits))
    assert model.scored.max() <= 1
    for question in range(len(asked)):
        rows = np.flatnonzero(model.owners == question)
        first = rows[np.argsort(-(settled.logits + model.added)[rows])[:k]]
        assert not settled.drafted[first].any()


@given(questions(least_error=0.0), st.integers(1, 25), st.integers(0, 99))
def test_few_candidates_cost_no_draft(asked: list[Question], k: int, seed: int) -> None:
    model = Model(asked, seed)
    model.settle(k)
    sizes = np.bincount(model.owners)[model.owners]
    np.testing.assert_array_equal(model.drafted, sizes > 3 * max(k, 10))


@pytest.mark.parametrize(("k", "again"), [(1, 10), (10, 10), (25, 25)])
def test_a_draft_without_errors_is_scored_again_only_where_it_shows(k: int, again: int) -> None:
    model = Model([Question(*np.stack([np.arange(90.0), np.zeros(90), np.zeros(90)]).astype(np.float32))], 0)
    assert (~model.settle(k).drafted).sum() == again


@pytest.mark.parametrize(("below", "again"), [(1.9, 11), (2.1, 10)])
def test_the_margin_is_twice_the_largest_error_seen(below: float, again: int) -> None:
    drafts = np.concatenate([np.full(10, 5.0), [4 - below], np.full(80, -9.0)])
    errors = np.concatenate([np.ones(10), np.zeros(81)])  # so that the tenth exact score is 4
    model = Model([Question(*np.stack([drafts - errors, 0 * drafts, errors]).astype(np.float32))], 0)
    assert (~model.settle(10).drafted).sum() == again


def test_settling_no_pairs_gives_empty_arrays() -> None:
    nothing = np.empty(0, np.float32)

    def never(_rows: np.ndarray) -> np.ndarray:
        raise AssertionError("there is nothing to score")

    settled = settle(np.empty(0, np.int32), nothing, 10, draft=never, exact=never)
    assert (len(settled.logits), len(settled.drafted)) == (0, 0)
