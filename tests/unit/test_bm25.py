"""BM25: what a writer commits is what a reader finds."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engine.errors import CollectionBusy, CollectionDamaged, CollectionOutdated, InvalidOption, StorageError
from indexes.analysis import DEFAULT_ANALYSIS, FRENCH_ANALYZER
from indexes.bm25 import BM25Index, BM25Writer
from indexes.lucene import declare

ROOT = Path(__file__).parents[2]
TEXTS = {
    10: "Le chat dort sur le canapé.",
    20: "Les chevaux galopent dans la plaine.",
    30: "Un cœur d'artichaut, l'été, à l'ombre.",
    40: "Le cheval et le chat sont dans l’écurie.",
    50: "Le chat du voisin, le chat noir, chasse un autre chat.",
}


def write(folder: Path, passages: dict[int, str], sequence: int = 1, analysis=DEFAULT_ANALYSIS) -> None:
    with BM25Writer(folder, analysis) as writer:
        writer.add(list(passages), list(passages.values()))
        writer.commit(sequence)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bm25")
    write(folder, TEXTS)
    with BM25Index.open(folder, DEFAULT_ANALYSIS) as opened:
        yield opened


def found(index: BM25Index, question: str, **options) -> list[int]:
    return index.search(question, 10, **options).ids.tolist()


def test_a_question_finds_the_passages_that_hold_its_words(index):
    assert set(found(index, "chat")) == {10, 40, 50}


def test_a_ranking_is_int64_and_float32_by_descending_score(index):
    ranking = index.search("chat dans la plaine", 10)
    assert ranking.ids.dtype == np.int64
    assert ranking.scores.dtype == np.float32
    assert (np.diff(ranking.scores) <= 0).all()


def test_scores_are_those_of_the_formula(tmp_path):
    write(tmp_path, {1: "chat chat chien", 2: "chien loup", 3: "loup"})
    with BM25Index.open(tmp_path, DEFAULT_ANALYSIS) as index:
        ranking = index.search("chat", 10, k1=1.5, b=0.5)
    idf = np.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    saturation = 2 / (2 + 1.5 * (1 - 0.5 + 0.5 * 3 / 2))
    assert ranking.ids.tolist() == [1]
    assert ranking.scores[0] == pytest.approx(idf * saturation, rel=1e-6)


def test_k1_and_b_count_at_search_time(index):
    assert index.search("chat", 10, b=0.0).scores[0] != index.search("chat", 10, b=1.0).scores[0]
    assert index.search("chat", 10, k1=0.0).scores.std() == 0


def test_ties_are_ordered_by_ascending_id(tmp_path):
    with BM25Writer(tmp_path, DEFAULT_ANALYSIS) as writer:
        writer.add([5, 900, 3], ["loup"] * 3)
        writer.commit(1)
        writer.add([4, 1], ["loup"] * 2)
        writer.commit(2)
    with BM25Index.open(tmp_path, DEFAULT_ANALYSIS) as index:
        assert found(index, "loup") == [1, 3, 4, 5, 900]
        assert index.search("loup", 2).ids.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        *[(word, 30) for word in ("coeur", "CŒUR", "ete", "été", "ÉTÉ", "qu'artichaut")],
        *[(word, 40) for word in ("chevaux", "l'écurie", "d’ecurie", "e\u0301curie", "ECURIES")],
        ("cheval", 20),
    ],
)
def test_accents_ligatures_case_elision_and_endings_do_not_matter(index, question, expected):
    assert expected in found(index, question)


@pytest.mark.parametrize("question", ["", "   ", "?!", "le la les", "\ud800", "😀"])
def test_a_question_without_a_word_to_search_for_finds_nothing(index, question):
    ranking = index.search(question, 10)
    assert ranking.ids.shape == ranking.scores.shape == (0,)
    assert (ranking.ids.dtype, ranking.scores.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize(
    "question", ['chat"', "chat AND NOT (", "text: chat~2^ /chat/", "+chat -chat", "chat\ud800", "ch*t chat"]
)
def test_a_question_is_never_parsed(index, question):
    assert set(found(index, question)) == {10, 40, 50}


def test_a_question_of_50000_characters_keeps_its_rarest_terms_and_is_quick(index):
    filler = " ".join(f"mot{number}" for number in range(9000))[:49_900]
    begun = time.thread_time()  # a busy machine must not fail it
    assert found(index, f"{filler} plaine chat") == index.search("plaine chat", 10).ids.tolist()
    assert time.thread_time() - begun < 5


def test_a_long_question_of_known_terms_keeps_the_rare_ones(tmp_path):
    common = " ".join(f"commun{number}" for number in range(200))
    write(tmp_path, {1: common, 2: common, 3: "rarissime"})
    with BM25Index.open(tmp_path, DEFAULT_ANALYSIS) as index:
        assert 3 in found(index, f"{common} rarissime")
        one, two, _ = index.search(f"{common} rarissime", 3).scores
        assert (
            one == two == pytest.approx(63 / 200 * index.search(" ".join(common.split()[:30]), 1).scores[0] * 200 / 30)
        )


def test_only_the_passages_asked_for_are_ranked(index):
    assert set(found(index, "chat", ids=np.array([10, 20, 50]))) == {10, 50}
    assert found(index, "chat", ids=np.array([], np.int64)) == []
    assert set(found(index, "chat", below=50)) == {10, 40}
    assert found(index, "chat", below=0) == []
    assert found(index, "chat", ids=np.array([40, 50]), below=50) == [40]


def test_a_filter_does_not_change_scores(index):
    everything, some = index.search("chat", 10), index.search("chat", 10, ids=np.array([40, 50]))
    scores = dict(zip(everything.ids.tolist(), everything.scores.tolist(), strict=True))
    assert [scores[i] for i in some.ids.tolist()] == some.scores.tolist()


def test_ids_larger_than_31_bits(tmp_path):
    write(tmp_path, {2**40: "loup", 2**40 + 1: "loup"})
    with BM25Index.open(tmp_path, DEFAULT_ANALYSIS) as index:
        assert found(index, "loup", ids=np.array([2**40 + 1])) == [2**40 + 1]
        assert found(index, "loup", below=2**40 + 1) == [2**40]


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_many_questions_answer_as_one_at_a_time(index, threads):
    questions = ["chat", "le", "cheval", "plaine", ""] * 5
    many = index.search_many(questions, 3, k1=0.9, b=0.4, threads=threads)
    for question, ranking in zip(questions, many, strict=True):
        single = index.search(question, 3, k1=0.9, b=0.4)
        assert ranking.ids.tolist() == single.ids.tolist()
        assert ranking.scores.tolist() == single.scores.tolist()


def test_one_question_costs_no_thread(index, monkeypatch):
    monkeypatch.setattr("indexes.bm25.java_threads", None)
    assert index.search_many(["chat"], 3)[0].ids.tolist() == index.search("chat", 3).ids.tolist() != []


def test_threads_may_share_an_index(index):
    questions = ["chat", "cheval", "plaine", "artichaut"] * 50
    expected = {question: found(index, question, ids=np.arange(100)) for question in set(questions)}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda question: found(index, question, ids=np.arange(100)), questions))
    assert answers == [expected[question] for question in questions]


@pytest.mark.parametrize("wrong", [{"k": 0}, {"k": 5, "k1": -1.0}, {"k": 5, "b": 1.5}, {"k": 5, "k1": float("nan")}])
def test_options_out_of_range_are_refused(index, wrong):
    with pytest.raises(InvalidOption):
        index.search("chat", **wrong)


def test_k_larger_than_the_index_gives_what_there_is(index):
    assert len(index.search("chat", 10**10).ids) == 3


def test_the_sequence_of_the_commit_is_remembered(tmp_path):
    write(tmp_path, TEXTS, sequence=41)
    with BM25Writer(tmp_path, DEFAULT_ANALYSIS) as writer:
        assert writer.applied == 41
        writer.commit(42)
        assert writer.applied == 42
    with BM25Index.open(tmp_path, DEFAULT_ANALYSIS) as index:
        assert (index.applied, index.count) == (42, 5)


def test_deleted_passages_are_gone_and_unknown_ids_passed_over(tmp_path):
    write(tmp_path, TEXTS)
    with BM25Writer(tmp_path, DEFAULT_ANALYSIS) as writer:
        writer.delete([10, 77])
        writer.delete([])
        writer.commit(2)
    with BM25Index.open(tmp_path, DEFAULT_ANALYSIS) as index:
        assert set(found(index, "chat")) == {40, 50}
        assert index.ids().tolist() == [20, 30, 40, 50]
        assert index.count == 4
        index.verify()


def test_what_was_not_committed_is_dropped(tmp_path):
    write(tmp_path, TEXTS)
    with pytest.raises(RuntimeError, match="stop"), BM25Writer(tmp_path, DEFAULT_ANALYSIS) as writer:
        writer.add([60], ["Un chat de trop."])
        writer.delete([10])
        raise RuntimeError("stop")
    with BM25Index.open(tmp_path, DEFAULT_ANALYSIS) as index:
        assert index.ids().tolist() == sorted(TEXTS)


def test_chunks_of_every_size_arrive_whole(tmp_path):
    with BM25Writer(tmp_path, DEFAULT_ANALYSIS) as writer:
        for size in (1, 255, 256, 257, 700):
            first = size * 1000
            writer.add(range(first, first + size), [f"passage n{number}" for number in range(first, first + size)])
        writer.commit(1)
    with BM25Index.open(tmp_path, DEFAULT_ANALYSIS) as index:
        assert index.count == 1 + 255 + 256 + 257 + 700
        assert found(index, "n700699") == [700_699]
        assert found(index, "n257000") == [257_000]
        index.verify()


def test_a_lone_surrogate_in_a_passage_counts_as_a_space(tmp_path):
    write(tmp_path, {1: "loup\ud800garou"})
    with BM25Index.open(tmp_path, DEFAULT_ANALYSIS) as index:
        assert found(index, "garou") == [1]


def test_ids_and_texts_must_match(tmp_path):
    with BM25Writer(tmp_path, DEFAULT_ANALYSIS) as writer, pytest.raises(ValueError, match="2 ids for 1 texts"):
        writer.add([1, 2], ["un"])


def test_a_reader_keeps_its_point_in_time_until_refreshed(tmp_path):
    write(tmp_path, TEXTS)
    with BM25Index.open(tmp_path, DEFAULT_ANALYSIS) as index:
        assert not index.refresh()
        write(tmp_path, {60: "Encore un chat."}, sequence=2)
        assert (index.applied, index.count) == (1, 5)
        assert index.refresh()
        assert (index.applied, index.count) == (2, 6)
        assert 60 in found(index, "chat")


def test_an_empty_index_answers_with_nothing(tmp_path):
    write(tmp_path, {})
    with BM25Index.open(tmp_path, DEFAULT_ANALYSIS) as index:
        assert index.count == 0
        assert index.ids().tolist() == []
        assert found(index, "chat") == []


def test_another_analysis_is_refused(tmp_path):
    write(tmp_path, TEXTS)
    with pytest.raises(CollectionOutdated, match="rebuild"):
        BM25Index.open(tmp_path, FRENCH_ANALYZER)
    with pytest.raises(CollectionOutdated, match="rebuild"):
        BM25Writer(tmp_path, FRENCH_ANALYZER)


def test_a_second_writer_is_told_at_once(tmp_path):
    with BM25Writer(tmp_path, DEFAULT_ANALYSIS), pytest.raises(CollectionBusy):
        BM25Writer(tmp_path, DEFAULT_ANALYSIS)
    BM25Writer(tmp_path, DEFAULT_ANALYSIS).close()


@pytest.mark.parametrize("made", [False, True])
def test_a_folder_without_an_index_is_damage_and_stays_as_it_is(tmp_path, made):
    folder = tmp_path / "index"
    if made:
        folder.mkdir()
    with pytest.raises(CollectionDamaged):
        BM25Index.open(folder, DEFAULT_ANALYSIS)
    assert folder.exists() == made


def test_a_file_where_the_folder_should_be_is_one_clear_error(tmp_path):
    (tmp_path / "index").touch()
    with pytest.raises(StorageError):
        BM25Writer(tmp_path / "index", DEFAULT_ANALYSIS)


def test_a_closed_index_says_so(tmp_path):
    write(tmp_path, TEXTS)
    index = BM25Index.open(tmp_path, DEFAULT_ANALYSIS)
    index.close()
    index.close()
    with pytest.raises(ValueError, match="closed"):
        index.search("chat", 1)


def test_many_small_commits_do_not_pile_up_segments(tmp_path):
    for number in range(1, 31):
        write(tmp_path, {number: "loup"}, sequence=number)
    assert len(list(tmp_path.glob("*.si"))) <= 12


def test_nothing_is_printed(tmp_path):
    code = (
        "from pathlib import Path\nfrom indexes.analysis import DEFAULT_ANALYSIS\nfrom indexes.bm25 import *\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "for sequence in (1, 2):\n    with BM25Writer(folder, DEFAULT_ANALYSIS) as writer:\n"
        "        writer.add([sequence], ['loup'])\n        writer.delete([1])\n        writer.commit(sequence)\n"
        "with BM25Index.open(folder, DEFAULT_ANALYSIS) as index:\n    assert len(index.search('loup', 5).ids) == 1\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("page", [1, 2, 5, 6])
def test_ids_are_read_page_by_page(index, monkeypatch, page):
    monkeypatch.setattr("indexes.bm25._PAGE", page)
    assert index.ids().tolist() == sorted(TEXTS)


def test_a_thread_that_searched_leaves_nothing_in_java(index):
    threads = declare("java/lang/Thread", activeCount="static ()I")
    before = threads.activeCount()
    for _ in range(5):
        thread = threading.Thread(target=index.search, args=("chat", 10))
        thread.start()
        thread.join()
    assert threads.activeCount() <= before


def test_threads_may_open_indexes_at_once(tmp_path):
    write(tmp_path / "bm25", TEXTS)
    program = f"""
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
sys.setswitchinterval(1e-5)
from indexes.analysis import DEFAULT_ANALYSIS
from indexes.bm25 import BM25Index
together = threading.Barrier(6)
def search(number):
    together.wait()
    with BM25Index.open(Path({str(tmp_path / "bm25")!r}), DEFAULT_ANALYSIS) as index:
        return [tuple(index.search("chat", 10, k1=k1).scores.tolist()) for k1 in (0.5, 1.0, 2.0)]
with ThreadPoolExecutor(6) as pool:
    assert len(set(map(tuple, pool.map(search, range(6))))) == 1
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
