"""BM25 holds for any question and any passages."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexes.analysis import DEFAULT_ANALYSIS
from indexes.bm25 import BM25Index, BM25Writer

WORDS = ["chat", "chien", "cœur", "été", "l'école", "loup", "chevaux", "journal", "mer", "de", "la"]
QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bm25")
    source = np.random.default_rng(1)
    texts = [" ".join(source.choice(WORDS, size=source.integers(1, 12))) for _ in range(400)]
    with BM25Writer(folder, DEFAULT_ANALYSIS) as writer:
        writer.add(range(1, 401), texts)
        writer.commit(1)
    with BM25Index.open(folder, DEFAULT_ANALYSIS) as opened:
        yield opened


@QUIET
@given(question=st.text(alphabet=st.characters(), max_size=600))
def test_any_string_is_a_question(index, question):
    ranking = index.search(question, 10)
    assert len(ranking.ids) == len(ranking.scores) <= 10


@QUIET
@given(
    question=st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join),
    allowed=st.frozensets(st.integers(1, 420), max_size=200),
    below=st.none() | st.integers(-5, 450),
    k=st.integers(1, 50),
)
def test_a_filtered_ranking_is_the_whole_ranking_filtered(index, question, allowed, below, k):
    whole = index.search(question, 400)
    kept = [
        (number, score)
        for number, score in zip(whole.ids.tolist(), whole.scores.tolist(), strict=True)
        if number in allowed and (below is None or number < below)
    ]
    ranking = index.search(question, k, ids=np.array(sorted(allowed), np.int64), below=below)
    assert list(zip(ranking.ids.tolist(), ranking.scores.tolist(), strict=True)) == kept[:k]


@QUIET
@given(question=st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join), k=st.integers(1, 399))
def test_fewer_hits_are_the_first_of_more(index, question, k):
    assert index.search(question, k).ids.tolist() == index.search(question, 400).ids.tolist()[:k]


@QUIET
@given(question=st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join))
def test_hits_stand_by_descending_score_then_ascending_id(index, question):
    ranking = index.search(question, 400)
    order = np.lexsort((ranking.ids, -ranking.scores))
    assert order.tolist() == list(range(len(ranking.ids)))
