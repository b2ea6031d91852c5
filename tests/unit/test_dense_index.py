"""Dense retrieval: exact rankings whatever the segments, filters, deletions; FAISS beyond the flat limit."""

import builtins
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.errors import CollectionDamaged, DependencyMissing
from engine.records import Ranking
from indexes.dense import DenseIndex, DenseWriter
from indexes.exact import widen

ROOT = Path(__file__).parents[2]
WIDTH = 16


def normalised(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def some_vectors(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = random.standard_normal((12, WIDTH))
    return normalised(centres[random.integers(0, 12, count)] + 0.6 * random.standard_normal((count, WIDTH)))


def brute_force(ids: np.ndarray, vectors: np.ndarray, question: np.ndarray, k: int) -> Ranking:
    scores = (vectors.astype(np.float16).astype(np.float64) * question).sum(axis=1).astype(np.float32)
    order = np.lexsort((ids, -scores))[:k]
    return Ranking(ids[order], scores[order])


def same(found: Ranking, wanted: Ranking) -> bool:
    return np.array_equal(found.ids, wanted.ids) and np.array_equal(found.scores, wanted.scores)


def written(folder: Path, vectors: np.ndarray, parts: int = 3) -> DenseWriter:
    writer = DenseWriter(folder, WIDTH, {"encoder": "x"})
    for ids in np.array_split(np.arange(len(vectors)), parts):
        writer.add(ids, vectors[ids])
    writer.commit(1)
    return writer


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr("indexes.approximate.FLAT_LIMIT", 500)
    monkeypatch.setattr("indexes.dense.FLAT_LIMIT", 500)


def test_more_neighbours_than_there_are_take_no_more_room(tmp_path: Path, low_limit: None) -> None:
    vectors, question = some_vectors(600), some_vectors(1, seed=8)
    written(tmp_path, vectors)
    found = DenseIndex.open(tmp_path).search(question, 10**10)[0]
    assert same(found, brute_force(np.arange(600), vectors, question[0], 600))


def test_halves_are_widened_exactly() -> None:
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    singles = np.empty(len(halves), np.float32)
    widen(halves, singles)
    assert np.array_equal(singles, halves.astype(np.float32))


@pytest.mark.parametrize("k", [1, 10, 399, 1000])
def test_search_equals_brute_force(tmp_path: Path, k: int) -> None:
    vectors, questions = some_vectors(400), some_vectors(5, seed=1)
    written(tmp_path, vectors)
    for question, found in zip(questions, DenseIndex.open(tmp_path).search(questions, k), strict=True):
        assert same(found, brute_force(np.arange(400), vectors, question, k))


def test_equal_vectors_tie_by_id_in_every_layout(tmp_path: Path) -> None:
    vectors = np.repeat(some_vectors(30), 10, axis=0)
    question = some_vectors(1, seed=2)
    rankings = []
    for parts in (1, 2, 7):
        folder = tmp_path / str(parts)
        written(folder, vectors, parts)
        rankings.append(DenseIndex.open(folder).search(question, 25)[0])
    assert same(rankings[0], brute_force(np.arange(300), vectors, question[0], 25))
    assert all(same(ranking, rankings[0]) for ranking in rankings)


def test_a_filter_ranks_as_the_filtered_collection_would(tmp_path: Path) -> None:
    vectors, question = some_vectors(300), some_vectors(1, seed=3)
    written(tmp_path, vectors)
    index = DenseIndex.open(tmp_path)
    ids = np.arange(0, 300, 7)
    assert same(index.search(question, 20, ids=ids)[0], brute_force(ids, vectors[ids], question[0], 20))
    assert same(index.search(question, 20, below=50)[0], brute_force(np.arange(50), vectors[:50], question[0], 20))
    both = ids[ids < 50]
    assert same(index.search(question, 20, ids=ids, below=50)[0], brute_force(both, vectors[both], question[0], 20))
    assert len(index.search(question, 5, ids=np.array([9999]))[0].ids) == 0
    assert len(index.search(question, 5, below=0)[0].ids) == 0


@pytest.mark.parametrize("share", [10, 2])
def test_deleted_passages_are_not_found(tmp_path: Path, share: int) -> None:
    vectors, question = some_vectors(300), some_vectors(1, seed=4)
    writer = written(tmp_path, vectors)
    writer.delete(np.arange(0, 300, share))
    writer.commit(2)
    kept = np.setdiff1d(np.arange(300), np.arange(0, 300, share))
    index = DenseIndex.open(tmp_path)
    assert (index.count, index.applied) == (len(kept), 2)
    assert np.array_equal(index.ids(), kept)
    assert same(index.search(question, 40)[0], brute_force(kept, vectors[kept], question[0], 40))


def test_scores_are_those_of_search(tmp_path: Path) -> None:
    vectors, question = some_vectors(100), some_vectors(1, seed=5)
    written(tmp_path, vectors)
    index = DenseIndex.open(tmp_path)
    found = index.search(question, 100)[0]
    assert np.array_equal(index.scores(question[0], found.ids), found.scores)
    assert np.isnan(index.scores(question[0], np.array([3, 1000]))).tolist() == [False, True]


def test_an_interrupted_encoding_resumes_where_it_stopped(tmp_path: Path) -> None:
    vectors = some_vectors(10)
    with DenseWriter(tmp_path, WIDTH) as writer:
        writer.add(np.arange(6), vectors[:6])
    assert DenseIndex.open(tmp_path).count == 0
    with DenseWriter(tmp_path, WIDTH) as writer:
        assert writer.unpublished().tolist() == list(range(6))
        writer.add(np.arange(6, 10), vectors[6:])
        writer.commit(1)
    assert DenseIndex.open(tmp_path).ids().tolist() == list(range(10))


def test_uncommitted_deletions_are_forgotten(tmp_path: Path) -> None:
    with written(tmp_path, some_vectors(10)) as writer:
        writer.delete(np.arange(5))
    DenseWriter(tmp_path, WIDTH).commit(2)
    assert DenseIndex.open(tmp_path).count == 10


@pytest.mark.parametrize("value", [np.nan, np.inf, 3.0, 0.0])
def test_vectors_that_are_not_normalised_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="normalised"):
        DenseWriter(tmp_path, WIDTH).add(np.arange(1), np.full((1, WIDTH), value, np.float32))


def test_questions_with_a_nan_or_a_foreign_shape_are_refused(tmp_path: Path) -> None:
    written(tmp_path, some_vectors(10))
    index = DenseIndex.open(tmp_path)
    with pytest.raises(ValueError, match="NaN"):
        index.search(np.full((1, WIDTH), np.nan, np.float32), 3)
    with pytest.raises(ValueError, match="shape"):
        index.search(np.zeros((1, WIDTH + 1), np.float32), 3)
    with pytest.raises(ValueError, match="k is 0"):
        index.search(np.zeros((1, WIDTH), np.float32), 0)


def test_another_dimension_is_damage(tmp_path: Path) -> None:
    written(tmp_path, some_vectors(10))
    with pytest.raises(CollectionDamaged, match="not 32"):
        DenseWriter(tmp_path, 32)


def test_a_small_collection_loads_no_faiss(tmp_path: Path) -> None:
    written(tmp_path, some_vectors(10))
    code = (
        "import sys, numpy as np; from pathlib import Path; from indexes.dense import DenseIndex\n"
        f"DenseIndex.open(Path(sys.argv[1])).search(np.ones((1, {WIDTH}), np.float32), 3)\n"
        "sys.exit('faiss' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False).returncode == 0


@pytest.mark.usefixtures("low_limit")
def test_a_large_collection_is_searched_by_faiss_with_exact_scores(tmp_path: Path) -> None:
    vectors, questions = some_vectors(2000), some_vectors(20, seed=6)
    writer = written(tmp_path, vectors)
    assert list(tmp_path.glob("*.attachment"))
    index = DenseIndex.open(tmp_path)
    overlap = []
    for question, found in zip(questions, index.search(questions, 20), strict=True):
        assert np.array_equal(index.scores(question, found.ids), found.scores)
        overlap.append(np.isin(found.ids, brute_force(np.arange(2000), vectors, question, 20).ids).mean())
    assert np.mean(overlap) > 0.9
    assert writer.applied == 1


@pytest.mark.usefixtures("low_limit")
def test_what_came_and_went_since_the_faiss_index_was_built_shows(tmp_path: Path) -> None:
    vectors = some_vectors(2000)
    writer = written(tmp_path, vectors)
    built = next(tmp_path.glob("*.attachment")).name
    new = normalised(vectors[[5]] + 1e-3)
    writer.delete(np.array([5]))
    writer.add(np.array([2000]), new)
    writer.commit(2)
    assert next(tmp_path.glob("*.attachment")).name == built
    found = DenseIndex.open(tmp_path).search(vectors[[5]], 10)[0]
    assert found.ids[0] == 2000
    assert 5 not in found.ids


@pytest.mark.usefixtures("low_limit")
def test_a_faiss_index_gets_its_k_hits_under_a_filter(tmp_path: Path) -> None:
    vectors, question = some_vectors(2000), some_vectors(1, seed=7)
    written(tmp_path, vectors)
    index = DenseIndex.open(tmp_path)
    few = np.arange(0, 2000, 10)
    assert same(index.search(question, 30, ids=few)[0], brute_force(few, vectors[few], question[0], 30))
    many = np.arange(0, 2000, 2)
    found = index.search(question, 1000, ids=many)[0]
    assert np.array_equal(np.sort(found.ids), many)
    assert (index.search(question, 50, below=1000)[0].ids < 1000).all()


@pytest.mark.usefixtures("low_limit")
def test_an_older_id_that_comes_late_is_found(tmp_path: Path) -> None:
    vectors = some_vectors(1001)
    writer = DenseWriter(tmp_path, WIDTH)
    writer.add(np.arange(1, 1001), vectors[1:])
    writer.commit(1)
    writer.add(np.array([0]), vectors[:1])
    writer.commit(2)
    assert DenseIndex.open(tmp_path).search(vectors[:1], 5)[0].ids[0] == 0


@pytest.mark.usefixtures("low_limit")
def test_the_faiss_index_is_built_anew_when_outgrown_and_dropped_when_small(tmp_path: Path) -> None:
    vectors = some_vectors(1400)
    writer = written(tmp_path, vectors[:1000])
    built = next(tmp_path.glob("*.attachment")).name
    writer.add(np.arange(1000, 1400), vectors[1000:])
    writer.commit(2)
    assert next(tmp_path.glob("*.attachment")).name != built
    writer.delete(np.arange(1000))
    writer.commit(3)
    assert not list(tmp_path.glob("*.attachment"))


@pytest.mark.usefixtures("low_limit")
def test_a_reader_whose_faiss_index_was_replaced_searches_exactly(tmp_path: Path) -> None:
    vectors, question = some_vectors(1400), some_vectors(1, seed=8)
    writer = written(tmp_path, vectors[:1000])
    reader = DenseIndex.open(tmp_path)
    writer.add(np.arange(1000, 1400), vectors[1000:])
    writer.commit(2)
    assert same(reader.search(question, 20)[0], brute_force(np.arange(1000), vectors[:1000], question[0], 20))


@pytest.mark.usefixtures("low_limit")
@pytest.mark.parametrize("place", [0, 40, 2000, -1])
def test_a_damaged_faiss_index_never_reaches_faiss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    import faiss

    written(tmp_path, some_vectors(1000))
    path = next(tmp_path.glob("*.attachment"))
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(bytes(content))
    monkeypatch.setattr(faiss, "read_index", lambda *_: pytest.fail("FAISS was given a damaged file"))
    index = DenseIndex.open(tmp_path)
    with pytest.raises(CollectionDamaged, match=path.name):
        index.search(some_vectors(1), 5)
    with pytest.raises(CollectionDamaged, match=path.name):
        index.verify()


@pytest.mark.usefixtures("low_limit")
@pytest.mark.parametrize("error", [ModuleNotFoundError("faiss"), ImportError("libopenblas"), AttributeError("swig")])
def test_without_a_working_faiss_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    original = builtins.__import__

    def broken(name, *args, **kwargs):
        if name == "faiss":
            raise error
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(DependencyMissing, match=r"fouille\[cpu\]"):
        written(tmp_path, some_vectors(1000))
    assert DenseIndex.open(tmp_path).count == 1000


def test_a_filter_holds_where_passages_were_deleted(tmp_path: Path) -> None:
    vectors, question = some_vectors(300), some_vectors(1, seed=3)
    writer = written(tmp_path, vectors)
    writer.delete(np.arange(0, 300, 10))
    writer.commit(2)
    index = DenseIndex.open(tmp_path)
    live = np.setdiff1d(np.arange(300), np.arange(0, 300, 10))
    ids = live[live % 7 == 0]
    asked = np.random.default_rng(0).permutation(np.arange(0, 300, 7))  # deleted ones among them, in any order
    assert same(index.search(question, 20, ids=asked)[0], brute_force(ids, vectors[ids], question[0], 20))
    for below in (50, 51, 52):
        for some, filtered in ((live, None), (ids, asked)):
            allowed = some[some < below]
            found = index.search(question, 300, ids=filtered, below=below)[0]
            assert same(found, brute_force(allowed, vectors[allowed], question[0], 300))


def test_blocks_of_rows_and_of_questions_join_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("_BLOCK_VALUES", 1),
        ("_LARGE_BLOCK_VALUES", 1),
        ("_SCORES_AT_ONCE", 1),
        ("_RESCORED_AT_ONCE", 50),
    ):
        monkeypatch.setattr(f"indexes.exact.{name}", value)  # blocks of 64 rows, the least, and one question at a time
    vectors, questions = some_vectors(400), some_vectors(5, seed=1)
    written(tmp_path, vectors, parts=2)
    index = DenseIndex.open(tmp_path)
    everything = np.arange(400)
    for ids in (everything, everything[::7], everything[everything % 3 > 0]):
        asked = None if ids is everything else ids
        for question, found in zip(questions, index.search(questions, 150, ids=asked), strict=True):
            assert same(found, brute_force(ids, vectors[ids], question, 150))


def test_rounding_does_not_decide_who_is_among_the_best(tmp_path: Path) -> None:
    # Against equal values all orders of one vector's values tie, but for the rounding of single precision.
    one, random = some_vectors(1)[0], np.random.default_rng(0)
    vectors = np.stack([random.permutation(one) for _ in range(300)])
    written(tmp_path, vectors)
    found = DenseIndex.open(tmp_path).search(np.full((1, WIDTH), 0.3, np.float32), 10)[0]
    assert found.ids.tolist() == list(range(10))
