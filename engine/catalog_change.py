"""One write transaction on a catalog: documents added and removed under one sequence number."""

import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from engine.records import Document, Span

__all__ = ["Addition", "Change", "Placed"]

_STORED = json.JSONEncoder(ensure_ascii=False)


class Placed(NamedTuple):
    """A slice of a document with its place in the file: what becomes a passage row."""

    span: Span
    page: int | None
    line: int | None


Addition = tuple[Document, bytes, Sequence[Placed]]
"""A document, the hash of its content, its passages."""


class Change:
    """A write transaction under way; `sequence` is the number it will have."""

    def __init__(self, connection: sqlite3.Connection, sequence: int) -> None:
        self.sequence = sequence
        self._connection = connection
        self._size = 0

    def add(self, documents: Sequence[Addition], source: int | None) -> list[int]:
        """Insert documents and their passages; returns the passages' ids, ascending, document by document.

        A document that is one passage is stored once.
        """
        row, id_ = self._last("documents"), self._last("passages")
        first = id_ + 1
        rows: list[tuple[object, ...]] = []
        passages: list[tuple[object, ...]] = []
        for document, content_hash, placed in documents:
            row += 1
            text = document.text
            whole = len(placed) == 1 and placed[0].span == (0, len(text))
            metadata = _STORED.encode(dict(document.metadata)) if document.metadata else "{}"
            pages = json.dumps(document.pages) if document.pages else "[]"
            stored = None if whole else text
            rows.append(
                (row, document.key, document.title, metadata, content_hash, source, pages, document.has_lines, stored)
            )
            for (start, end), page, line in placed:
                id_ += 1
                passages.append((id_, row, start, end, page, line, text[start:end]))
        self._connection.executemany(
            "INSERT INTO documents (id, key, title, metadata, hash, source, pages, has_lines, text)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        self._connection.executemany(
            "INSERT INTO passages (id, document, start, end, page, line, text) VALUES (?, ?, ?, ?, ?, ?, ?)", passages
        )
        self._size += len(rows)
        return list(range(first, id_ + 1))

    def _last(self, table: str) -> int:
        """The highest id that a table ever gave out."""
        found = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        return int(found[0]) if found else 0

    def remove(self, document: int) -> list[int]:
        """Mark a document and its passages removed; returns the passages' ids."""
        rows = self._connection.execute("SELECT id FROM passages WHERE document = ?", (document,)).fetchall()
        for table, column in (("documents", "id"), ("passages", "document")):
            self._connection.execute(
                f"UPDATE {table} SET removed = ? WHERE {column} = ?",  # noqa: S608 - names from the line above
                (self.sequence, document),
            )
        self._size += 1
        return [row[0] for row in rows]

    def note(self) -> None:
        """Raise the sequence though no document changed: an index that is new has everything to apply."""
        self._size += 1

    def seal(self) -> None:
        """Write the sequence into the log, unless nothing changed."""
        if self._size:
            self._connection.execute("INSERT INTO changes VALUES (?, ?)", (self.sequence, self._last("passages")))
