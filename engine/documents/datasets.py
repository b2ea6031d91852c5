"""Test collections that ir_datasets knows by id (`irds:ID`), read one document at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from engine.documents.extraction import Record
from engine.errors import DependencyMissing, SourceNotFound

__all__ = ["IRDS", "count_records", "dataset_records", "open_dataset"]

IRDS = "irds:"


@contextmanager
def open_dataset(spec: str) -> Iterator[Any]:
    """The ir_datasets collection that `irds:ID` names, to be read within the block: its files come as they are needed.

    Raises:
        DependencyMissing: ir_datasets is not installed.
        SourceNotFound: it knows no such id, or, within the block, a file cannot be downloaded or read.
    """
    try:
        import ir_datasets
    except ImportError:
        raise DependencyMissing("ir_datasets is not installed", hint="pip install 'fouille[eval]'") from None
    name = spec.removeprefix(IRDS)
    try:
        dataset = ir_datasets.load(name)
    except KeyError:
        raise SourceNotFound(
            f"ir_datasets knows no collection {name!r}", hint="see ir-datasets.com for the ids"
        ) from None
    try:
        yield dataset
    except (OSError, RuntimeError, ImportError) as error:  # of its downloads, its checksums, its optional libraries
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise SourceNotFound(
            f"its files cannot be had: {reason}", where=spec, hint="ir-datasets.com says where they come from"
        ) from error


def dataset_records(spec: str) -> Iterator[Record]:
    """Every document of a collection, under its own id.

    Raises:
        DependencyMissing, SourceNotFound: as `open_dataset`; or it has no documents.
    """
    with open_dataset(spec) as dataset:
        if not dataset.has_docs():
            raise SourceNotFound("this ir_datasets collection has no documents", where=spec)
        for row, document in enumerate(dataset.docs_iter(), 1):
            title, text = getattr(document, "title", "") or "", getattr(document, "text", None)
            if text is None:  # documents of other fields (body, abstract) say themselves what there is to read
                title, text = "", document.default_text()
            yield Record(document.doc_id, row, row, title, text, {})


def count_records(spec: str) -> int | None:
    """How many documents a collection says that it has; None where it does not know before it is read."""
    with open_dataset(spec) as dataset:
        count: int | None = dataset.docs_count()
        return count
