"""Runs, qrels, questions and corpora: what is read, what is written, what is refused and where."""

import gzip
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from engine.errors import EvaluationError, StorageError
from engine.evaluation import Qrels, Run, read_qrels, read_questions, read_run, write_qrels, write_run
from engine.evaluation.corpora import documents, read_corpus
from engine.evaluation.lines import odd_character, replacing

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return to_file


def test_run_written_ranks_from_1_and_breaks_ties_by_descending_id(tmp_path: Path) -> None:
    write_run({"q1": {"a": 1.5, "c": 2.0, "b": 1.5}}, tmp_path / "r.trec", tag="moi")
    assert (tmp_path / "r.trec").read_text() == "q1 Q0 c 1 2.0 moi\nq1 Q0 b 2 1.5 moi\nq1 Q0 a 3 1.5 moi\n"


def test_run_is_ordered_by_score_whatever_its_rank_column_says(write: Write) -> None:
    run = read_run(write("r.trec", "q Q0 a 1 0.5 t\nq Q0 b 2 0.9 t\n"))
    assert run["q"].documents == ("b", "a")


def test_scores_come_back_bit_for_bit(tmp_path: Path) -> None:
    scores = np.array([1e-300, 0.1, 1 / 3, float(np.float32(0.7)), -2.5e17])
    write_run([("q", [f"d{i}" for i in range(5)], scores)], tmp_path / "r.trec")
    read = read_run(tmp_path / "r.trec")["q"]
    assert dict(zip(read.documents, read.scores.tolist(), strict=True)) == {f"d{i}": s for i, s in enumerate(scores)}


def test_lines_of_a_question_may_be_scattered(write: Write) -> None:
    run = read_run(write("r.trec", "q1 Q0 a 1 3 t\nq2 Q0 x 1 1 t\nq1 Q0 b 2 5 t\nq2 Q0 y 2 2 t\n"))
    assert list(run) == ["q1", "q2"]
    assert run["q1"].documents == ("b", "a")
    assert run["q2"].documents == ("y", "x")


def test_gzipped_run_with_a_byte_order_mark_and_windows_lines_is_read(write: Write) -> None:
    assert read_run(write("r.trec.gz", "\ufeffq Q0 é 1 2 t\r\n"))["q"].documents == ("é",)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("q Q0 a 1 2 t\nq Q0 b 2\n", 2, "4 columns"),
        ("q Q0 a 1 deux t\n", 1, "not a number"),
        ("q Q0 a 1 1 t\nq Q0 b 2 NaN t\n", 2, "NaN"),
        ("q Q0 a 1 1 t\nq Q0 b 2 inf t\n", 2, "infinite"),
        ("q Q0 a 1 2 t\nq Q0 b 2 1 t\nq Q0 a 3 0 t\n", 3, "twice"),
        ("q Q0 a 1 2 t\nz Q0 a 1 2 t\nq Q0 a 3 0 t\n", 3, "twice"),
        ("q Q0 a\u00a0b 1 2 t\n", 1, "whitespace"),
        ("q Q0 a 1 2 t\n\nq\u2028 Q0 a 1 2 t\n", 3, "whitespace"),
        ("q Q0 a\x01 1 2 t\n", 1, "control"),
        ("q Q0 a\x7f 1 2 t\n", 1, "control"),
    ],
)
def test_bad_line_of_a_run_is_refused_with_its_number(write: Write, text: str, line: int, reason: str) -> None:
    path = write("r.trec", text)
    with pytest.raises(EvaluationError, match=reason) as caught:
        read_run(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_id_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "r.trec").write_bytes(b"q Q0 \xff 1 2 t\n")
    with pytest.raises(EvaluationError, match=r"r\.trec:1: .*not UTF-8"):
        read_run(tmp_path / "r.trec")


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_empty_run_is_an_error(write: Write, text: str) -> None:
    with pytest.raises(EvaluationError, match="empty"):
        read_run(write("r.trec", text))


def test_run_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_run(tmp_path / "none.trec")


def test_truncated_gzip_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "r.gz").write_bytes(gzip.compress(b"q Q0 a 1 2 t\n" * 500)[:-12])
    with pytest.raises(EvaluationError, match="broken"):
        read_run(tmp_path / "r.gz")


def test_corrupt_gzip_is_an_error(tmp_path: Path) -> None:
    packed = gzip.compress(b"q Q0 a 1 2 t\n" * 500)
    for broken in (packed[:3], packed[:12] + b"\xff\xff\xff" + packed[15:]):
        (tmp_path / "r.gz").write_bytes(broken)
        with pytest.raises(EvaluationError, match="broken"):
            read_run(tmp_path / "r.gz")


@pytest.mark.parametrize("document", ["", "a b", "a\tb", "a\nb", "\x00", "\ud800"])
def test_id_that_no_run_can_hold_is_refused_and_leaves_no_file(tmp_path: Path, document: str) -> None:
    with pytest.raises(EvaluationError, match="question 'q'"):
        write_run([("q", [document], [1.0])], tmp_path / "r.trec")
    assert list(tmp_path.iterdir()) == []


def test_nan_and_repeated_documents_are_not_written(tmp_path: Path) -> None:
    for score in (math.nan, math.inf, -math.inf):
        with pytest.raises(EvaluationError, match="'a' is not a finite number"):
            write_run([("q", ["a"], [score])], tmp_path / "r.trec")
        with pytest.raises(EvaluationError, match="'a' for question 'q' is not a finite number"):
            Run({"q": {"a": score}})
    with pytest.raises(EvaluationError, match="twice"):
        write_run([("q", ["a", "a"], [2.0, 1.0])], tmp_path / "r.trec")
    with pytest.raises(EvaluationError, match="question 'q': comes twice"):
        write_run([("q", ["a"], [2.0]), ("q", ["b"], [1.0])], tmp_path / "r.trec")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("grade", "kept"), [(np.int64(2), 2), (1.0, 1), (True, 1), (0.5, None), (None, None), ("1", None)]
)
def test_grades_are_whole_numbers_whatever_holds_them(grade: Any, kept: int | None) -> None:
    if kept is None:
        with pytest.raises(
            EvaluationError, match=f"the grade {grade!r} of document 'd' for question 'q' is not an int"
        ):
            Qrels({"q": {"d": grade}})
        return
    assert Qrels({"q": {"d": grade}})["q"] == {"d": kept}
    assert type(Qrels({"q": {"d": grade}})["q"]["d"]) is int


def test_ids_are_texts() -> None:
    for wrong in ({1: {"d": 1}}, {"q": {1: 1}}):
        for kind in (Run, Qrels):
            with pytest.raises(EvaluationError, match="the id 1 is no text"):
                kind(wrong)


@pytest.mark.parametrize("name", ["r.trec", "r.trec.gz"])
def test_run_written_to_a_link_goes_where_it_leads(tmp_path: Path, name: str) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / name).symlink_to(tmp_path / "far" / name)
    write_run({"q": {"a": 1.0}}, tmp_path / name)
    assert (tmp_path / name).is_symlink()
    assert read_run(tmp_path / "far" / name)["q"].documents == ("a",)


def test_a_file_that_cannot_be_read_while_another_is_written_is_the_one_that_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"absent/x: cannot be read"), replacing(tmp_path / "r") as stream:
        stream.write((tmp_path / "absent" / "x").read_text())
    with pytest.raises(StorageError, match=r"absent/r: cannot be written"), replacing(tmp_path / "absent" / "r"):
        pass


def test_run_is_not_written_over_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name, reason in (("pipe", "is no file"), ("link", "is no file"), (".", "is a folder")):
        with pytest.raises(StorageError, match=reason):
            write_run({"q": {"a": 1.0}}, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


def test_run_is_not_written_to_stdout_where_it_could_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match=r"-: cannot be written: .*\(name a file\)"):
        write_run({"q": {"a": 1.0}}, "-")
    assert not list(tmp_path.iterdir())


def test_failed_write_keeps_the_run_that_was_there(tmp_path: Path) -> None:
    write_run({"q": {"a": 1.0}}, tmp_path / "r.trec")
    with pytest.raises(EvaluationError):
        write_run([("q", ["b"], [1.0]), ("q2", ["a b"], [1.0])], tmp_path / "r.trec")
    assert read_run(tmp_path / "r.trec")["q"].documents == ("a",)


def test_folder_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        write_run({"q": {"a": 1.0}}, tmp_path / "none" / "r.trec")


def test_run_becomes_a_frame() -> None:
    pytest.importorskip("pandas")
    frame = Run({"q": {"a": 1.0, "b": 2.0}, "z": {"c": 0.5}}).to_frame()
    assert frame.to_dict("list") == {
        "question": ["q", "q", "z"],
        "document": ["b", "a", "c"],
        "rank": [1, 2, 1],
        "score": [2.0, 1.0, 0.5],
    }


def test_qrels_of_trec_and_of_beir_are_the_same(write: Write) -> None:
    trec = read_qrels(write("q.txt", "q1 0 a 2\nq1 0 b 0\nq2 0 a -1\n"))
    beir = read_qrels(write("q.tsv", "query-id\tcorpus-id\tscore\nq1\ta\t2\nq1\tb\t0\nq2\ta\t-1\n"))
    assert dict(trec) == dict(beir) == {"q1": {"a": 2, "b": 0}, "q2": {"a": -1}}


@pytest.mark.parametrize("layout", ["trec", "beir"])
def test_qrels_come_back_as_written(tmp_path: Path, layout: str) -> None:
    qrels = {"q1": {"a": 2, "é": 0}, "q2": {"b": 1}}
    write_qrels(qrels, tmp_path / "q", layout=layout)
    assert dict(read_qrels(tmp_path / "q")) == qrels


def test_beir_folder_with_one_split_needs_no_name(write: Write) -> None:
    path = write("set/qrels/dev.tsv", "query-id\tcorpus-id\tscore\nq1\ta\t1\n")
    assert dict(read_qrels(path.parents[1])) == {"q1": {"a": 1}}
    write("set/qrels/train.tsv", "query-id\tcorpus-id\tscore\nq2\ta\t1\n")
    with pytest.raises(EvaluationError, match="2 splits"):
        read_qrels(path.parents[1])


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("q1 0 a 1\nq1 a 1\n", 2, "3 columns"),
        ("q1 0 a un\n", 1, "not an integer"),
        ("q1 0 a 1.0\n", 1, "not an integer"),
        ("q1 0 a 1\nq1 0 b 2147483648\n", 2, "beyond 32 bits"),
        ("q1 0 a 1\nq1 0 a 2\n", 2, "judged twice"),
        ("query-id\tcorpus-id\tscore\nq1\t\t1\n", 2, "empty id"),
        ("query-id\tcorpus-id\tscore\nq1\ta b\t1\n", 2, "whitespace"),
    ],
)
def test_bad_line_of_qrels_is_refused_with_its_number(write: Write, text: str, line: int, reason: str) -> None:
    path = write("qrels.txt", text)
    with pytest.raises(EvaluationError, match=reason) as caught:
        read_qrels(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_qrels_are_read_from_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = Thread(target=(tmp_path / "pipe").write_bytes, args=[b"q1 0 a 1\n"])
    writer.start()
    assert dict(read_qrels(tmp_path / "pipe")) == {"q1": {"a": 1}}
    writer.join()


def test_questions_of_tsv_jsonl_and_beir_are_the_same(write: Write) -> None:
    tsv = write("q.tsv", "q1\tOù est le chat ?\nq2\tun\tdeux\n")
    rows = [{"_id": "q1", "text": "Où est le chat ?"}, {"_id": "q2", "text": "un\tdeux"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    jsonl, beir = write("q.jsonl.gz", lines), write("set/queries.jsonl", lines).parent
    assert read_questions(tsv) == read_questions(jsonl) == read_questions(beir)
    assert read_questions(tsv)[0] == ("q1", "Où est le chat ?")


def test_only_the_questions_judged_are_kept(write: Write) -> None:
    path = write("q.tsv", "q1\tun\nq2\tdeux\n")
    assert [question.id for question in read_questions(path, only={"q2", "q9"})] == ["q2"]
    with pytest.raises(EvaluationError, match="none of the questions is judged"):
        read_questions(path, only={"q9"})


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("q.tsv", "q1\tun\nsans tabulation\n", ":2: an id, a tab"),
        ("q.tsv", "q1\tun\nq1\tdeux\n", ":2: question 'q1' stands twice"),
        ("q.tsv", "q1\t  \n", ":1: question 'q1' has no text"),
        ("q.tsv", "q 1\tun\n", ":1: the id 'q 1' holds whitespace"),
        ("q.jsonl", '{"_id": "q1", "text": "un"}\n{"_id": "q2"\n', ":2: not JSON"),
        ("q.jsonl", '{"_id": "q1"}\n', ":1: the record needs"),
        ("q.jsonl", "[1]\n", ":1: a JSON object"),
        ("q.jsonl", "[" * 100_000, ":1: not JSON"),
        ("q.jsonl", '{"_id": "q1", "text": "un \\ud83d"}\n', ":1: question 'q1' holds a lone surrogate"),
        ("q.tsv", "\n", "holds no question"),
    ],
)
def test_bad_question_is_refused_with_its_line(write: Write, name: str, text: str, reason: str) -> None:
    with pytest.raises(EvaluationError, match=reason):
        read_questions(write(name, text))


def test_corpora_of_beir_jsonl_and_tsv_keep_ids_and_whole_texts(write: Write) -> None:
    beir = write("set/corpus.jsonl", '{"_id": "7", "title": "Chat", "text": "Il dort. Il ronfle."}\n').parent
    passage = next(iter(read_corpus(beir)))
    assert (passage.id, passage.input) == ("7", "Chat Il dort. Il ronfle.")
    assert next(iter(read_corpus(write("c.tsv", "7\tIl dort.\n")))).text == "Il dort."
    assert [(document.key, document.text) for document in documents(beir)] == [("7", "Il dort. Il ronfle.")]


def test_folder_without_a_corpus_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no corpus\.jsonl"):
        list(read_corpus(tmp_path))


def test_ir_datasets_collection_is_read_under_its_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    ir_datasets = pytest.importorskip("ir_datasets")
    from ir_datasets.formats import GenericDoc, GenericQuery, TrecQrel

    class Tiny:
        has_docs = has_queries = has_qrels = staticmethod(lambda: True)
        docs_iter = staticmethod(lambda: iter([GenericDoc("d1", "Il dort.")]))
        queries_iter = staticmethod(lambda: iter([GenericQuery("q1", "Qui dort ?")]))
        qrels_iter = staticmethod(lambda: iter([TrecQrel("q1", "d1", 2, "0")]))

    monkeypatch.setattr(ir_datasets, "load", {"tiny": Tiny()}.__getitem__)
    assert [tuple(passage) for passage in read_corpus("irds:tiny")] == [("d1", "", "Il dort.")]
    assert read_questions("irds:tiny") == [("q1", "Qui dort ?")]
    assert dict(read_qrels("irds:tiny")) == {"q1": {"d1": 2}}
    with pytest.raises(EvaluationError, match="knows no collection 'nulle/part'"):
        read_qrels("irds:nulle/part")


def test_a_byte_order_mark_is_no_id() -> None:
    """It would vanish as the mark of a file that begins with it; found by the round trip's property test."""
    assert odd_character("\ufeff") == "the id '\\ufeff' holds a byte order mark (U+FEFF)"
