"""Sources: what a person names, and the keys of the documents in it."""

import gzip
import io
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from engine.documents import Columns, open_source
from engine.errors import SourceNotFound
from engine.records import Document, Rejection


def keys(spec: Path | str) -> list[str]:
    return [item.key for item in open_source(str(spec)).read() if isinstance(item, Document)]


def rejections(spec: Path | str) -> list[str]:
    return [str(item) for item in open_source(str(spec)).read() if isinstance(item, Rejection)]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return write(tmp_path / "notes", b_dot_txt="deux", a__c_dot_md="# Trois", a__b_dot_html="<p>un</p>")


def test_files_of_a_folder_are_named_by_it_and_their_path(notes: Path) -> None:
    assert keys(notes) == ["notes/a/b.html", "notes/a/c.md", "notes/b.txt"]


def test_a_file_alone_is_named_by_itself(notes: Path) -> None:
    assert keys(notes / "b.txt") == ["b.txt"]


def test_a_renamed_source_renames_its_keys(notes: Path) -> None:
    source = open_source(str(notes)).rename("notes-2")
    assert source.name == "notes-2"
    assert "notes-2/a/b.html" in [item.key for item in source.read() if isinstance(item, Document)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.txt", ["notes/b.txt"]),
        ("**/*.md", ["notes/a/c.md"]),
        ("**/[ab].*", ["notes/a/b.html", "notes/b.txt"]),
        ("?", ["notes/a/b.html", "notes/a/c.md"]),
        ("**", ["notes/a/b.html", "notes/a/c.md", "notes/b.txt"]),
        ("*/c.md", ["notes/a/c.md"]),
    ],
)
def test_a_glob_matches_names_and_folders(notes: Path, pattern: str, expected: list[str]) -> None:
    assert keys(f"{notes}/{pattern}") == expected


def test_a_glob_that_names_an_extension_reads_it_as_text(notes: Path) -> None:
    write(notes, j_dot_log="journal")
    assert keys(f"{notes}/*.log") == ["notes/j.log"]
    assert "notes/j.log" not in keys(notes)


def test_a_glob_matches_names_in_either_normal_form(notes: Path) -> None:
    (notes / "cafe\u0301.txt").write_text("un café")
    assert keys(f"{notes}/caf\u00e9*") == keys(f"{notes}/cafe\u0301*") == ["notes/caf\u00e9.txt"]


def test_a_relative_folder_has_its_own_name(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(notes)
    assert keys(".")[0] == "notes/a/b.html"
    assert keys("*.txt") == ["notes/b.txt"]


def test_a_folder_whose_name_holds_wildcards_is_a_folder(tmp_path: Path) -> None:
    assert keys(write(tmp_path / "n[1]*", a_dot_txt="un")) == ["n[1]*/a.txt"]


def test_a_beir_folder_keeps_its_ids_and_passages(tmp_path: Path) -> None:
    record = {"_id": "p1", "title": "T", "text": "Un texte.", "metadata": {"url": "u"}}
    for name, opener in (("plain", open), ("packed", gzip.open)):
        folder = tmp_path / name
        folder.mkdir()
        suffix = ".gz" if name == "packed" else ""
        with opener(folder / f"corpus.jsonl{suffix}", "wt") as file:
            file.write(json.dumps(record) + "\n")
        source = open_source(str(folder))
        assert source.keeps_passages
        assert list(source.read()) == [Document("p1", "Un texte.", "T", {"format": "jsonl", "url": "u"})]


def test_below_a_folder_only_the_corpus_of_a_beir_folder_is_read(tmp_path: Path) -> None:
    write(
        tmp_path / "all",
        x__corpus_dot_jsonl='{"_id": "1", "text": "t"}',
        x__queries_dot_jsonl='{"_id": "q", "text": "?"}',
    )
    write(tmp_path / "all", x__qrels__dev_dot_tsv="query-id\tcorpus-id\tscore")
    assert keys(tmp_path / "all") == ["all/x/corpus.jsonl#1"]


def test_records_alone_go_by_their_own_ids_and_below_a_folder_by_their_file_too(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "f", a_dot_jsonl='{"id": 7, "text": "t"}\n\n{"text": "u"}', t_dot_csv="id,text\nx,t\n,u\n"
    )
    assert keys(folder / "a.jsonl") == ["7", "a.jsonl#2"]
    assert keys(folder) == ["f/a.jsonl#7", "f/a.jsonl#2", "f/t.csv#x", "f/t.csv#2"]


def test_standard_input_gives_jsonl_whose_records_need_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(b'{"_id": "a", "text": "t"}\n{"text": "t"}\n')

    monkeypatch.setattr("sys.stdin", Stdin)
    source = open_source("-")
    assert source.location == "-"
    document, rejection = source.read()
    assert isinstance(document, Document)
    assert document.key == "a"
    assert rejection == Rejection("stdin", 'missing field "_id"', 2)


def test_columns_name_the_fields_to_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        a_dot_jsonl='{"doc": "k", "corps": "c", "titre": "t", "text": "x"}',
        a_dot_csv="doc;corps;titre\nk;c;t",
    )
    columns = Columns(id="doc", title="titre", text="corps")
    for name in ("a.jsonl", "a.csv"):
        (document,) = open_source(str(tmp_path / name), columns=columns).read()
        assert isinstance(document, Document)
        assert (document.key, document.title, document.text) == ("k", "t", "c")


def test_columns_that_jsonl_beside_the_table_does_not_have_leave_it_its_usual_fields(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "f",
        a_dot_csv="doc,corps\nk,un\n",
        b_dot_jsonl='{"_id": "1", "text": "deux"}\n{"doc": "2", "corps": "trois", "text": "x"}\n{"_id": "3"}\n',
    )
    *documents, rejection = open_source(str(folder), columns=Columns(id="doc", text="corps")).read()
    assert [(item.key, item.text) for item in documents if isinstance(item, Document)] == [
        ("f/a.csv#k", "un"),
        ("f/b.jsonl#1", "deux"),
        ("f/b.jsonl#2", "trois"),
    ]
    assert str(rejection) == 'b.jsonl:3: missing field "corps"'


def test_a_field_that_is_asked_for_as_one_thing_is_not_taken_for_another(tmp_path: Path) -> None:
    path = write(tmp_path, a_dot_jsonl='{"title": "T", "text": "t"}') / "a.jsonl"
    (document,) = open_source(str(path), columns=Columns(id="title")).read()
    assert isinstance(document, Document)
    assert (document.key, document.title) == ("T", "")


def test_a_duplicate_key_is_rejected_and_the_first_kept(tmp_path: Path) -> None:
    path = write(tmp_path, a_dot_jsonl='{"_id": "1", "text": "a"}\n{"_id": "1", "text": "b"}') / "a.jsonl"
    document, rejection = open_source(str(path)).read()
    assert isinstance(document, Document)
    assert document.text == "a"
    assert rejection == Rejection("a.jsonl", 'duplicate key "1", the first one is kept', 2)


def test_gzip_is_looked_through(tmp_path: Path) -> None:
    (tmp_path / "notes.txt.gz").write_bytes(gzip.compress("été".encode()))
    (document,) = open_source(str(tmp_path)).read()
    assert isinstance(document, Document)
    assert (document.text, document.title, document.metadata["format"]) == ("été", "notes", "text")


def test_a_file_with_an_unknown_extension_is_read_when_it_is_named(tmp_path: Path) -> None:
    assert keys(write(tmp_path, LISEZMOI="du texte") / "LISEZMOI") == ["LISEZMOI"]


def test_files_of_other_kinds_are_counted_and_foreign_documents_rejected(notes: Path) -> None:
    write(notes, p_dot_png="x", q_dot_png="x", Makefile="all:", d_dot_doc="x")
    skipped: Counter[str] = Counter()
    found = [str(item) for item in open_source(str(notes)).read(skipped) if isinstance(item, Rejection)]
    assert found == ["d.doc: DOC is not read here; save it as DOCX, ODT or PDF"]
    assert skipped == {".png": 2, "no extension": 1}


@pytest.mark.parametrize("name", ["a.rtf", "a.ps", "a.RTF.gz"])
@pytest.mark.parametrize("pattern", ["{}", "*.{}"])
def test_a_foreign_document_is_rejected_when_it_is_named_too(tmp_path: Path, name: str, pattern: str) -> None:
    (tmp_path / name).write_text("{\\rtf1 Le chat dort.}")
    spec = tmp_path / pattern.format(name if pattern == "{}" else name.partition(".")[2])
    (rejection,) = open_source(str(spec)).read()
    assert isinstance(rejection, Rejection)
    assert rejection.where == name
    assert " is not read here; save it as " in rejection.reason


def test_an_empty_document_is_rejected(tmp_path: Path) -> None:
    assert rejections(write(tmp_path, a_dot_txt=" \n\u200b ", b_dot_txt="b")) == ["a.txt: empty document"]


@pytest.mark.parametrize(
    "spec", ["", "  ", "missing", "missing/*.txt", "nul\0", "~nobody-of-this-name/x", "~nobody-of-this-name/*.txt"]
)
def test_a_source_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceNotFound) as caught:
        open_source(spec)
    assert "\n" not in str(caught.value)


def test_a_name_that_begins_like_a_home_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(tmp_path, **{"~nobody-of-this-name__a_dot_txt": "un"}))
    assert keys("~nobody-of-this-name") == ["~nobody-of-this-name/a.txt"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.jsonl", ""), ("a.jsonl", "\n \n"), ("a.csv", "id,text\n"), ("a.tsv", "id\ttext"), ("corpus.jsonl", "")],
)
def test_records_that_are_not_there_are_an_error_not_an_empty_run(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    source = open_source(str(tmp_path if name == "corpus.jsonl" else tmp_path / name))
    with pytest.raises(SourceNotFound, match="holds no record"):
        list(source.read())


def test_empty_standard_input_is_an_error_not_an_empty_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": io.BytesIO()}))
    with pytest.raises(SourceNotFound, match=r"^stdin: holds no record"):
        list(open_source("-").read())


def test_a_folder_that_shows_names_and_nothing_else_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write(tmp_path / "closed", a_dot_txt="un")
    asked = os.stat

    def stat(path: str | Path, *arguments: object, **named: object) -> os.stat_result:
        if Path(path).parent == base:
            raise PermissionError(13, "Permission denied")
        return asked(path, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", stat)
    assert rejections(base) == ["a.txt: cannot be read, permission denied"]


def test_an_empty_folder_says_what_was_passed_over(tmp_path: Path) -> None:
    write(tmp_path, a_dot_png="x", _dot_hidden_dot_txt="x")
    with pytest.raises(SourceNotFound, match=r"empty folder.*1 files of other kinds.*\.png"):
        open_source(str(tmp_path))


def test_a_glob_without_a_match_says_so(notes: Path) -> None:
    with pytest.raises(SourceNotFound, match="no file matches"):
        open_source(f"{notes}/*.pdf")


def test_a_source_that_goes_away_after_it_was_opened_is_an_error_not_an_empty_run(notes: Path) -> None:
    source = open_source(str(notes))
    notes.rename(notes.with_name("elsewhere"))
    with pytest.raises(SourceNotFound):
        list(source.read())


def test_a_pipe_is_no_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(SourceNotFound, match="neither a file nor a folder"):
        open_source(str(tmp_path / "pipe.txt"))
