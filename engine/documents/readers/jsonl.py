"""JSONL: one JSON object a line."""

import json
import math
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, NoReturn

from engine.documents.extraction import Columns, Record, Unreadable
from engine.documents.lines import TOO_LONG, lines
from engine.documents.text import check_text, normalise
from engine.records import Rejection

__all__ = ["read"]

_DEEPEST = 64
_ID_FIELDS, _TITLE_FIELDS = ("_id", "id", "key", "identifiant"), ("title", "titre")
_TEXT_FIELDS = ("text", "contents", "texte", "content", "contenu", "body")


def read(stream: BinaryIO, columns: Columns) -> Iterator[Record | Rejection]:
    """Read the records of a JSONL stream, holding one line at a time."""
    names = _names(columns)
    row = 0
    for number, line in lines(stream):
        if line is None:
            yield Rejection("", TOO_LONG, number)
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        row += 1
        try:
            yield _record(line, names, row, number)
        except Unreadable as error:
            yield Rejection("", error.what, number)


class _Names(NamedTuple):
    """The fields to look for, first choice first."""

    id: tuple[str, ...]
    title: tuple[str, ...]
    text: tuple[str, ...]


def _names(columns: Columns) -> _Names:
    """What is asked for, then the usual fields: JSONL may lie beside the table whose columns were named."""
    asked = (columns.id, columns.title, columns.text)
    usual = (_ID_FIELDS, _TITLE_FIELDS, _TEXT_FIELDS)
    free = (tuple(name for name in names if name not in asked) for names in usual)
    return _Names(*((first, *names) if first else names for first, names in zip(asked, free, strict=True)))


def _record(line: bytes, names: _Names, row: int, number: int) -> Record:
    fields = _parse(line)
    text = _pop(fields, names.text, required=True)
    title = _pop(fields, names.title)
    key = _pop(fields, names.id, numbers=True)
    metadata = fields.pop("metadata", None)
    extra: dict[str, Any] = fields
    if isinstance(metadata, dict):
        extra |= metadata
    elif metadata is not None:
        extra["metadata"] = metadata
    if b"\\u" in line:  # the only way for a NUL or a lone surrogate into parsed JSON
        for name, value in (("text", text), ("title", title), ("id", key)):
            _refuse_damaged(name, value or "")
        _refuse_damaged("metadata", json.dumps(extra, ensure_ascii=False).replace("\\u0000", "\0"))
    if not line.isascii() or b"\\u" in line:
        extra = {name: normalise(value) if isinstance(value, str) else value for name, value in extra.items()}
    return Record(key, row, number, title or "", text or "", extra)


def _parse(line: bytes) -> dict[str, Any]:
    try:
        value = _DECODER.decode(line.decode())
    except UnicodeDecodeError as error:
        raise Unreadable(f"not UTF-8, at byte {error.start + 1} of the line") from error
    except json.JSONDecodeError as error:
        raise Unreadable(f"malformed JSON, {error.msg.lower()} at character {error.pos + 1}") from error
    except RecursionError as error:
        raise Unreadable("JSON nested too deeply") from error
    except ValueError as error:  # an integer of thousands of digits
        raise Unreadable(f"malformed JSON, {error}") from error
    if not isinstance(value, dict):
        raise Unreadable("not a JSON object")
    if line.count(b"[") + line.count(b"{") > _DEEPEST:
        _refuse_depth(value)
    return value


def _refuse_depth(value: object) -> None:
    """Metadata is written as JSON again later, from deeper in the call stack than it was read."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if level:
        raise Unreadable("JSON nested too deeply")


def _refuse_constant(name: str) -> NoReturn:
    raise Unreadable(f"malformed JSON, {name} is no number")


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        _refuse_constant(number[:24])
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _pop(
    fields: dict[str, Any], names: tuple[str, ...], *, required: bool = False, numbers: bool = False
) -> str | None:
    """Take the first of these fields that the record has, as text."""
    for name in names:
        if name in fields:
            value = fields.pop(name)
            break
    else:
        if required:
            hint = "; choose with --text-column" if names == _TEXT_FIELDS else ""
            raise Unreadable(f'missing field "{names[0]}"{hint}')
        return None
    if numbers and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None and not required:
        return None
    if not isinstance(value, str):
        raise Unreadable(f'field "{name}" is not text')
    return value


def _refuse_damaged(name: str, value: str) -> None:
    if reason := check_text(value):
        raise Unreadable(f'field "{name}" {reason}')
