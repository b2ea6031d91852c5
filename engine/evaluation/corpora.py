"""Passages of BEIR folders, JSONL and TSV files and ir_datasets collections, streamed whole under their own ids."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from engine.documents.datasets import IRDS, dataset_records, open_dataset
from engine.documents.discovery import CORPUS_NAMES
from engine.errors import EvaluationError, SourceNotFound
from engine.evaluation.lines import numbered_lines
from engine.records import Document, passage_input

__all__ = ["IRDS", "CorpusPassage", "documents", "irds_dataset", "json_lines", "read_corpus"]


class CorpusPassage(NamedTuple):
    """A passage of a test collection; `id` is the collection's own."""

    id: str
    title: str
    text: str

    @property
    def input(self) -> str:
        """What both stages read of it."""
        return passage_input(self.title, self.text)


def read_corpus(source: str | Path) -> Iterator[CorpusPassage]:
    """Streams the passages of a collection.

    Args:
        source: a BEIR folder, a JSONL file (`_id` or `id`, `text`, perhaps `title`), a TSV file (`id`, text: MS MARCO's
            collections), either of them gzipped, or `irds:ID`.

    Raises:
        EvaluationError: nothing to read there, or a line that is no record; the line is named.
    """
    spec = str(source)
    if spec.startswith(IRDS):
        yield from _from_irds(spec)
        return
    path = _corpus_file(Path(source)) if Path(source).is_dir() else Path(source)
    if ".tsv" in path.suffixes:
        for _, identifier, text in tsv_lines(path):
            yield CorpusPassage(identifier, "", text)
        return
    for number, record in json_lines(path):
        name, content, title = record.get("_id", record.get("id")), record.get("text"), record.get("title") or ""
        if not isinstance(name, str | int) or not isinstance(content, str) or not isinstance(title, str):
            raise EvaluationError("the record needs an _id, a text and at most a title", where=f"{path}:{number}")
        yield CorpusPassage(str(name), title, content)


def documents(source: str | Path) -> Iterator[Document]:
    """The passages of a collection as documents to index; their ids are the keys, and the splitter must be `none`."""
    for passage in read_corpus(source):
        yield Document(key=passage.id, text=passage.text, title=passage.title)


def _corpus_file(folder: Path) -> Path:
    for name in CORPUS_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise EvaluationError("not a BEIR folder: it has no corpus.jsonl", where=folder)


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered JSON objects of a JSONL file.

    Raises:
        EvaluationError: a line is not a JSON object in UTF-8.
    """
    for number, line in numbered_lines(path):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise EvaluationError(f"not JSON in UTF-8: {error}", where=f"{path}:{number}") from None
        if not isinstance(record, dict):
            raise EvaluationError("a JSON object is expected on each line", where=f"{path}:{number}")
        yield number, record


def tsv_lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line number, id, text) of a file of two tab-separated columns; the text may hold further tabs.

    Raises:
        EvaluationError: a line has no tab or an empty id, or is not UTF-8.
    """
    for number, line in numbered_lines(path):
        try:
            identifier, tab, text = line.decode().partition("\t")
        except UnicodeDecodeError:
            raise EvaluationError("the line is not UTF-8", where=f"{path}:{number}") from None
        if not tab or not identifier:
            raise EvaluationError("an id, a tab and a text are expected", where=f"{path}:{number}")
        yield number, identifier, text


@contextmanager
def irds_dataset(spec: str) -> Iterator[Any]:
    """The ir_datasets collection that `irds:ID` names, to be read within the block.

    Raises:
        DependencyMissing: ir_datasets is not installed.
        EvaluationError: it knows no such id, or a file cannot be downloaded or read.
    """
    with _source_errors(spec), open_dataset(spec) as dataset:
        yield dataset


def _from_irds(spec: str) -> Iterator[CorpusPassage]:
    with _source_errors(spec):
        for record in dataset_records(spec):
            yield CorpusPassage(str(record.id), record.title, record.text)


@contextmanager
def _source_errors(spec: str) -> Iterator[None]:
    try:
        yield
    except SourceNotFound as error:
        raise EvaluationError(error.what, where=spec, hint="see ir-datasets.com") from error
