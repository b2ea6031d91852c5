"""`irds:ID` as a source: a collection of ir_datasets, its passages whole under their own ids."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.collection import Collection
from engine.documents import open_source
from engine.errors import EvaluationError, SourceNotFound
from engine.evaluation import read_qrels
from engine.evaluation.corpora import read_corpus
from engine.records import Document, Rejection

ir_datasets = pytest.importorskip("ir_datasets")

LONG = "Le préavis est de trois mois. " * 100


class Dataset:
    """Two documents of title and text, one of other fields, one without text."""

    def __init__(self) -> None:
        self.documents = [Titled("d1", "Le bail", LONG), Titled("d2", "", "Il dort."), Other(), Titled("d4", "", " ")]

    def has_docs(self) -> bool:
        return bool(self.documents)

    def docs_iter(self) -> Iterator[object]:
        return iter(self.documents)

    def docs_count(self) -> int:
        return len(self.documents)


class Titled:
    def __init__(self, name: str, title: str, text: str) -> None:
        self.doc_id, self.title, self.text = name, title, text


class Other:
    doc_id = "d3"

    def default_text(self) -> str:
        return "Un résumé, puis un corps."


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    made = Dataset()
    monkeypatch.setattr(ir_datasets, "load", {"fr/bail": made}.__getitem__)
    return made


@pytest.mark.usefixtures("dataset")
def test_documents_come_under_their_ids_and_one_without_text_is_rejected() -> None:
    source = open_source("irds:fr/bail")
    *found, last = source.read()
    assert [(item.key, item.title) for item in found if isinstance(item, Document)] == [
        ("d1", "Le bail"),
        ("d2", ""),
        ("d3", ""),
    ]
    assert isinstance(last, Rejection)
    assert source.expected() == 4


@pytest.mark.usefixtures("dataset")
def test_passages_stay_whole_in_a_collection_that_splits_files(tmp_path: Path) -> None:
    pytest.importorskip("pyserini")
    with Collection.create(tmp_path / "c", first_stage="bm25", splitter="words:50:10") as collection:
        report = collection.update([open_source("irds:fr/bail")])
        assert (report.added, report.rejected) == (3, 1)
        assert collection.info()["passages"] == 3
        assert collection.update([open_source("irds:fr/bail")]).unchanged == 3


@pytest.mark.usefixtures("dataset")
def test_unknown_id_is_one_line() -> None:
    with pytest.raises(SourceNotFound, match="knows no collection 'fr/rien'"):
        open_source("irds:fr/rien")


def test_collection_without_documents_is_refused(dataset: Dataset) -> None:
    dataset.documents.clear()
    with pytest.raises(SourceNotFound, match="no documents"):
        open_source("irds:fr/bail")


def test_collection_that_gives_no_document_is_refused(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dataset, "has_docs", lambda _: True)
    dataset.documents.clear()
    with pytest.raises(SourceNotFound, match="irds:fr/bail: holds no record"):
        list(open_source("irds:fr/bail").read())


def unreachable(self: Dataset) -> Iterator[object]:
    yield self.documents[0]
    raise ConnectionError("no route to host\nMax retries exceeded")


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (lambda spec: list(open_source(spec).read()), SourceNotFound),
        (lambda spec: list(read_corpus(spec)), EvaluationError),
    ],
    ids=["source", "corpus"],
)
def test_files_that_cannot_be_downloaded_are_one_line(
    read: Callable[[str], object], error: type[Exception], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dataset, "docs_iter", unreachable)
    with pytest.raises(error, match="cannot be had: no route to host Max retries") as caught:
        read("irds:fr/bail")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("dataset")
def test_qrels_of_an_unknown_id_are_an_evaluation_error() -> None:
    with pytest.raises(EvaluationError, match="knows no collection"):
        read_qrels("irds:fr/rien")
