"""What a reader gives back, and how it says that it cannot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.errors import DocumentError

__all__ = ["MOST_BYTES", "MOST_LINE", "MOST_TITLE", "Columns", "Extraction", "Record", "Unreadable"]

# A file that is read as one document, after expansion.
MOST_BYTES = 256 * 1024 * 1024
# A line of JSONL or CSV. A longer one is rejected, and never held as a whole.
MOST_LINE = 16 * 1024 * 1024
# Characters of a title that a file gives itself; it is read again with each passage.
MOST_TITLE = 300


class Unreadable(DocumentError):
    """A file, or one record of it, cannot be read; `what` is the reason of its rejection."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns of a table to read; None tries the usual ones.

    JSONL records are read by these names, too, and by the usual ones where they have no such field.
    """

    id: str | None = None
    title: str | None = None
    text: str | None = None


@dataclass(slots=True)
class Extraction:
    """One document as its file holds it; see `engine.records.Document` for `pages` and `has_lines`."""

    text: str
    title: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    pages: tuple[int, ...] = ()
    has_lines: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file that holds many: its own id if it has one, the line it starts on, its row from 1."""

    id: str | None
    row: int
    line: int
    title: str
    text: str
    metadata: Mapping[str, Any]
