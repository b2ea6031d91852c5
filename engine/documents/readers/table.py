"""CSV and TSV: a header that names the columns, then a document a row."""

import csv
import re
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import BinaryIO

from engine.documents.encoding import guess, marked_encoding
from engine.documents.extraction import MOST_LINE, Columns, Record, Unreadable
from engine.documents.lines import TOO_LONG, lines
from engine.documents.text import check_text, normalise
from engine.records import Rejection

__all__ = ["read"]

_ID_NAMES = ("_id", "id", "key", "identifiant", "cle", "clé")
_TITLE_NAMES = ("title", "titre", "intitule", "intitulé", "nom", "name")
_TEXT_NAMES = ("text", "texte", "contents", "content", "contenu", "passage", "body", "description")
_OPEN_QUOTE = "malformed row, its quote stays open"
_DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*"?')
_HEADER_LINES = 20
_SEPARATOR = re.compile(r"sep=[,;\t|]", re.IGNORECASE)


class _Lines:
    """Decoded lines for csv, which asks for more of them while a quoted field goes on.

    Holds the lines of the record at hand, `MOST_LINE` characters at most. Where its quote stays open, those that it
    swallowed come again, each a record of its own: a quote among them that stays open as well swallows no more, or
    reading would take quadratic time.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._source = self._decoded()
        self._again: deque[tuple[int, str]] = deque()
        self._swallowed = 0  # the last line that came, or will come, again
        self._held: list[tuple[int, str]] = []
        self._size = 0
        self.guessed: str | None = None
        self.columns: int | None = None  # of a table whose tabs set its fields apart, which has quotes as text
        self.too_long: list[int] = []
        self.is_cut = False  # there was no further line for the record at hand

    @property
    def first(self) -> int | None:
        """Line on which the record at hand began."""
        return self._held[0][0] if self._held else None

    def begin(self) -> None:
        """The record at hand is done, the next line begins another."""
        self._held.clear()
        self._size, self.is_cut = 0, False

    def give_again(self) -> None:
        """Let the lines of the record at hand come again, all but its first."""
        self._swallowed = max(self._swallowed, self._held[-1][0])
        self._again.extendleft(reversed(self._held[1:]))

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        following = self._following()
        if following is None:
            self.is_cut = True
            raise StopIteration
        begins = not self._held
        self._held.append(following)
        self._size += len(following[1])
        return _literal(following[1], self.columns) if begins and self.columns else following[1]

    def _following(self) -> tuple[int, str] | None:
        if self._held and self._held[0][0] <= self._swallowed:
            return None
        following = self._again.popleft() if self._again else next(self._source, None)
        if following and self._held and self._size + len(following[1]) > MOST_LINE:
            self._again.appendleft(following)
            return None
        return following

    def _decoded(self) -> Iterator[tuple[int, str]]:
        for number, line in self._numbered():
            if line is None:
                self.too_long.append(number)
            else:
                yield number, line

    def _numbered(self) -> Iterator[tuple[int, str | None]]:
        source = lines(self._stream)
        number, head = next(source, (0, b""))
        marked = marked_encoding(head or b"")
        if marked in ("utf-16", "utf-32"):
            raise Unreadable(f"encoded in {marked.upper()}; save it as UTF-8")
        yield number, head if head is None else self._decode(head.removeprefix(b"\xef\xbb\xbf"))
        for number, line in source:
            yield number, line if line is None else self._decode(line)

    def _decode(self, line: bytes) -> str:
        """UTF-8; where that fails, the encoding that the first such line looks like."""
        try:
            return line.decode()
        except UnicodeDecodeError:
            self.guessed = self.guessed or guess(line)
            return line.decode(self.guessed, errors="replace")


def _literal(line: str, columns: int) -> str:
    """A line of fields set apart by tabs, whose quotes csv takes for text unless they are around whole fields."""
    if '"' not in line:
        return line
    try:
        if len(next(csv.reader([line], delimiter="\t", strict=True))) == columns:
            return line
    except csv.Error:
        pass
    body = line.rstrip("\r\n")
    fields = body.split("\t")
    if len(fields) < columns and fields[-1].startswith('"'):  # goes on, with its tabs and ends of line
        return line
    quoted = ('"' + field.replace('"', '""') + '"' if field.startswith('"') else field for field in fields)
    return "\t".join(quoted) + line[len(body) :]


def read(stream: BinaryIO, columns: Columns) -> Iterator[Record | Rejection]:
    """Read the rows of a table; its delimiter is the one that its header holds most of.

    Raises:
        Unreadable: there is no header, or no column of text in it.
    """
    # The module's one limit for all readers; its default of 131,072 characters is less than a long article.
    csv.field_size_limit(MOST_LINE)
    source = _Lines(stream)
    head = next(source, "")
    delimiter = max(_DELIMITERS, key=_QUOTED.sub("", head).count)
    if _SEPARATOR.fullmatch(head.strip()):  # Excel's own first line
        source.begin()
        delimiter, head = head.strip()[-1], next(source, "")
    names = [" ".join(name.split()) for name in _header(source, head, delimiter)]
    places = _places(names, columns)
    if delimiter == "\t":
        source.columns = len(names)
    rows = csv.reader(source, delimiter=delimiter)
    row = 0
    while True:
        source.begin()
        try:
            fields = next(rows, None)
        except csv.Error as error:
            yield Rejection("", f"malformed row, {error}", source.first)
            continue
        for number in source.too_long:
            yield Rejection("", TOO_LONG, number)
        source.too_long.clear()
        if fields is None:
            return
        if not fields:
            continue
        row += 1
        line = source.first or 0
        if source.is_cut:
            yield Rejection("", _OPEN_QUOTE, line)
            source.give_again()
            continue
        if not any(map(str.strip, fields)):  # spreadsheets write such below their last row
            continue
        if not any(fields[len(names) :]):  # and beside their last column
            del fields[len(names) :]
        reason = _fault(fields, names, places)
        yield Rejection("", reason, line) if reason else _record(fields, names, places, (row, line), source.guessed)


def _header(source: _Lines, head: str, delimiter: str) -> list[str]:
    """The fields of the header; a quoted one may go on over some lines, as spreadsheets write them."""
    if delimiter != "\t":  # between tabs a quote is text
        try:
            return next(csv.reader(chain([head], islice(source, _HEADER_LINES)), delimiter=delimiter, strict=True), [])
        except csv.Error:  # its quote stays open, or was none
            source.give_again()
    try:
        return next(csv.reader([head], delimiter=delimiter), [])
    except csv.Error as error:
        raise Unreadable("its lines end in a carriage return alone: save it as CSV UTF-8") from error


def _places(names: list[str], columns: Columns) -> dict[str, int]:
    """The columns of id, title and text."""
    folded = [name.casefold() for name in names]
    places = {}
    for role, asked, usual in (
        ("id", columns.id, _ID_NAMES),
        ("title", columns.title, _TITLE_NAMES),
        ("text", columns.text, _TEXT_NAMES),
    ):
        wanted = usual if asked is None else (asked.casefold(),)
        place = next((folded.index(name) for name in wanted if name in folded), None)
        if place is not None:
            places[role] = place
        elif role == "text" or asked is not None:
            if not any(names):
                raise Unreadable("no header")
            listed = ", ".join(list(filter(None, names))[:12])
            raise Unreadable(f'no column "{asked or usual[0]}" in its header; choose with --{role}-column: {listed}')
    return places


def _fault(fields: list[str], names: list[str], places: dict[str, int]) -> str | None:
    if len(fields) > len(names):
        return f"{len(fields)} fields under {len(names)} columns"
    if len(fields) <= places["text"]:
        return f'missing field "{names[places["text"]]}"'
    return next(filter(None, map(check_text, fields)), None)


def _record(
    fields: list[str], names: list[str], places: dict[str, int], at: tuple[int, int], guessed: str | None
) -> Record:
    values = dict(enumerate(fields))
    identifier, title, text = (values.pop(places.get(role, -1), "") for role in ("id", "title", "text"))
    metadata = {names[place]: normalise(value) for place, value in values.items() if value and names[place]}
    if guessed:
        metadata["encoding"] = f"{guessed} (guessed)"
    return Record(identifier.strip() or None, *at, title, text, metadata)
