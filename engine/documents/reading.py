"""From one file to its documents: the reader is called, its failures become rejections, its text takes one form."""

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO, NamedTuple

from engine.documents.datasets import dataset_records
from engine.documents.discovery import Found, system_reason
from engine.documents.expansion import open_expanded, read_expanded
from engine.documents.extraction import MOST_TITLE, Columns, Record, Unreadable
from engine.documents.readers import JSONL, PLAIN_TEXT, Format, format_of, record_reader, refusal, whole_reader
from engine.documents.text import check_text, in_one_line, normalise, readable_name
from engine.records import Document, Rejection

__all__ = ["ReadDocument", "count_documents", "read_dataset", "read_file", "read_records", "read_stdin"]

EMPTY = "empty document"


class ReadDocument(NamedTuple):
    """A document, and where it was found, for a rejection that comes later."""

    document: Document
    where: str
    line: int | None = None


def read_file(found: Found, key: str, columns: Columns, *, is_alone: bool) -> Iterator[ReadDocument | Rejection]:
    """The documents of a file.

    Args:
        found: the file.
        key: the key of the document in it.
        columns: which columns or fields of its records to read.
        is_alone: whether the file is the source; its records then go by their own ids, else by `key#id`.
    """
    form = format_of(found.name) or PLAIN_TEXT
    if reason := refusal(found.name):
        yield Rejection(found.name, reason)
    elif form.has_records:
        yield from read_records(found, columns, missing_id=key, prefix="" if is_alone else f"{key}#")
    else:
        yield _read_whole(found, key, form)


def _read_whole(found: Found, key: str, form: Format) -> ReadDocument | Rejection:
    try:
        extraction = whole_reader(form)(read_expanded(found.path))
    except Unreadable as error:
        return Rejection(found.name, error.what)
    except OSError as error:
        return Rejection(found.name, f"cannot be read, {system_reason(error)}")
    except Exception as error:  # noqa: BLE001 - parsers meet hostile files, and one of them must not stop the run
        return Rejection(found.name, f"the {form.name} reader failed, {type(error).__name__}: {error}")
    metadata = {"format": form.name} | extraction.metadata
    text = normalise(extraction.text) if extraction.has_lines else extraction.text
    title = in_one_line(extraction.title)[:MOST_TITLE].rstrip() or readable_name(found.name)
    reason = check_text(text) or check_text(title) or check_text("".join(map(str, metadata.values())))
    if reason or not text.strip():
        return Rejection(found.name, reason or EMPTY)
    return ReadDocument(Document(key, text, title, metadata, extraction.pages, extraction.has_lines), found.name)


def read_records(
    found: Found, columns: Columns, *, missing_id: str | None, prefix: str = ""
) -> Iterator[ReadDocument | Rejection]:
    """The records of a file, one at a time.

    Args:
        found: the file.
        columns: which columns or fields to read.
        missing_id: a record without an id goes by this and its row; None rejects it.
        prefix: stands before each record's own id.
    """
    form = format_of(found.name) or JSONL
    try:
        with open_expanded(found.path) as stream:
            yield from _records(stream, found.name, form, columns, missing_id, prefix)
    except Unreadable as error:
        yield Rejection(found.name, error.what)
    except OSError as error:
        yield Rejection(found.name, f"cannot be read, {system_reason(error)}")
    except Exception as error:  # noqa: BLE001 - as `_read_whole`
        yield Rejection(found.name, f"the {form.name} reader failed, {type(error).__name__}: {error}")


def count_documents(found: Found) -> int:
    """About how many documents a file holds, by a quick look: one, or its lines where it holds records."""
    form = format_of(found.name) or PLAIN_TEXT
    if not form.has_records:
        return 1
    try:
        with open_expanded(found.path) as stream:
            return sum(block.count(b"\n") for block in iter(partial(stream.read, 1 << 20), b""))
    except (Unreadable, OSError):
        return 0


def read_stdin(columns: Columns) -> Iterator[ReadDocument | Rejection]:
    """The JSONL records on standard input; each needs an id, or the next pipe would replace this one's."""
    yield from _records(sys.stdin.buffer, "stdin", JSONL, columns, None, "")


def read_dataset(spec: str) -> Iterator[ReadDocument | Rejection]:
    """The documents of `irds:ID`; raises as `engine.documents.datasets.dataset_records`."""
    yield from _placed(dataset_records(spec), spec, "irds", None, "")


def _records(
    stream: BinaryIO, where: str, form: Format, columns: Columns, missing_id: str | None, prefix: str
) -> Iterator[ReadDocument | Rejection]:
    yield from _placed(record_reader(form)(stream, columns), where, form.name, missing_id, prefix)


def _placed(
    records: Iterable[Record | Rejection], where: str, form: str, missing_id: str | None, prefix: str
) -> Iterator[ReadDocument | Rejection]:
    for record in records:
        if isinstance(record, Rejection):
            yield Rejection(where, record.reason, record.line)
            continue
        if record.id is None and missing_id is None:
            yield Rejection(where, 'missing field "_id"', record.line)
            continue
        key = f"{missing_id}#{record.row}" if record.id is None else prefix + record.id
        text, title = normalise(record.text), in_one_line(record.title)[:MOST_TITLE].rstrip()
        if not text.strip():
            text, title = title, ""  # a record of a title alone, as some collections have, is found by it
        reason = check_text(text) or check_text(title) or check_text(key)
        has_id = record.id is None or record.id.strip()
        if reason or not has_id or not text:
            yield Rejection(where, reason or (EMPTY if has_id else "empty id"), record.line)
            continue
        metadata: dict[str, Any] = {"format": form} | dict(record.metadata)
        yield ReadDocument(Document(key, text, title, metadata), where, record.line)
