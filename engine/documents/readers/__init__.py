"""One reader per format, and the table that names them by file extension.

A reader is imported when a file of its format is met, so that a search pays for none.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple, cast

from engine.documents.extraction import Columns, Extraction, Record
from engine.records import Rejection

__all__ = ["JSONL", "PLAIN_TEXT", "Format", "extension_of", "format_of", "record_reader", "refusal", "whole_reader"]

WholeReader = Callable[[bytes], Extraction]
# Rejections that a record reader yields carry an empty `where`; the source fills it in.
RecordReader = Callable[[BinaryIO, Columns], Iterator[Record | Rejection]]


class Format(NamedTuple):
    """A format: its name in metadata, the module that reads it, whether a file holds many records."""

    name: str
    module: str
    has_records: bool = False


_TEXT, _MARKDOWN = Format("text", "plain"), Format("markdown", "markdown")
_HTML = Format("html", "html")
JSONL = Format("jsonl", "jsonl", has_records=True)
_FORMATS = {
    ".txt": _TEXT,
    ".text": _TEXT,
    ".rst": _TEXT,
    ".adoc": _TEXT,
    ".md": _MARKDOWN,
    ".markdown": _MARKDOWN,
    ".html": _HTML,
    ".htm": _HTML,
    ".xhtml": _HTML,
    ".pdf": Format("pdf", "pdf"),
    **dict.fromkeys((".docx", ".docm", ".dotx", ".dotm"), Format("docx", "docx")),
    **dict.fromkeys((".odt", ".ott"), Format("odt", "odt")),
    ".epub": Format("epub", "epub"),
    ".jsonl": JSONL,
    ".ndjson": JSONL,
    ".csv": Format("csv", "table", has_records=True),
    ".tsv": Format("tsv", "table", has_records=True),
}
PLAIN_TEXT = _TEXT

# Document formats that fouille cannot read: reported, where files of other kinds are only counted.
_REFUSED = {
    **dict.fromkeys((".doc", ".dot", ".rtf", ".pages", ".wpd", ".mobi", ".azw3", ".chm"), "DOCX, ODT or PDF"),
    **dict.fromkeys((".ppt", ".pptx", ".odp", ".djvu", ".ps"), "PDF"),
    **dict.fromkeys((".xls", ".xlsx", ".ods"), "CSV"),
    **dict.fromkeys((".eml", ".msg", ".mht", ".mhtml"), "HTML, PDF or text"),
}


def extension_of(name: str) -> str:
    """The extension that names the format, in lower case; `.gz` is looked through."""
    return PurePosixPath(name.lower().removesuffix(".gz")).suffix


def format_of(name: str) -> Format | None:
    """The format of a file by its name, None when it is not read here."""
    return _FORMATS.get(extension_of(name))


def refusal(name: str) -> str | None:
    """Why a document of a kind that is not read here is refused, by its name; None where it may be read."""
    extension = extension_of(name)
    form = _REFUSED.get(extension)
    return f"{extension[1:].upper()} is not read here; save it as {form}" if form else None


def whole_reader(form: Format) -> WholeReader:
    """The reader of a format whose files are one document each."""
    return cast(WholeReader, import_module(f"{__name__}.{form.module}").read)


def record_reader(form: Format) -> RecordReader:
    """The reader of a format whose files hold a document per record."""
    return cast(RecordReader, import_module(f"{__name__}.{form.module}").read)
