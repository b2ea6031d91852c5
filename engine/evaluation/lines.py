"""Opening the field's text files, plain or gzipped, and what an id in them may look like."""

import gzip
import io
import os
import re
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from engine.errors import EvaluationError, StorageError

__all__ = ["file_error", "numbered_lines", "odd_character", "open_bytes", "replacing", "written"]

_BOM = b"\xef\xbb\xbf"
# str.isspace() and category Cc spelt out; lone surrogates, which cannot be written; the byte order mark, which a file
# that begins with it would lose.
_ODD = re.compile("[\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff\ud800-\udfff]")


def odd_character(name: str) -> str | None:
    """Why `name` cannot stand among columns: it is empty, or holds whitespace, a control character or half a pair."""
    if not name:
        return "an empty id"
    found = _ODD.search(name)
    return None if found is None else f"the id {name!r} holds {_kind(found[0])} (U+{ord(found[0]):04X})"


def _kind(character: str) -> str:
    if character.isspace():
        return "whitespace"
    if character == "\ufeff":
        return "a byte order mark"
    return "a lone surrogate" if "\ud800" <= character <= "\udfff" else "a control character"


def file_error(error: OSError, path: Path) -> EvaluationError:
    """A file that cannot be read, as one line."""
    return EvaluationError(f"cannot be read: {error.strerror or error}", where=path)


def open_bytes(path: Path) -> IO[bytes]:
    """Opens a plain or gzipped file; it may be a pipe.

    Raises:
        EvaluationError: there is no such file, or it cannot be read.
    """
    try:
        return cast("IO[bytes]", gzip.GzipFile(path)) if path.suffix == ".gz" else path.open("rb", buffering=1 << 20)
    except OSError as error:
        raise file_error(error, path) from error


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, without a byte order mark and their line end, counted from 1.

    Raises:
        EvaluationError: the file cannot be read, or its compressed stream is broken.
    """
    with open_bytes(path) as stream:
        try:
            for number, line in enumerate(stream, 1):
                text = line.removeprefix(_BOM) if number == 1 else line
                if text and not text.isspace():
                    yield number, text.rstrip(b"\r\n")
        except (OSError, EOFError, zlib.error) as error:
            raise EvaluationError(f"the file is broken: {error}", where=path) from error


@contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """A UTF-8 text file (gzipped for `.gz`) that takes the place of `path` only once it is whole and on the disk.

    Raises:
        StorageError: the system refused to write.
    """
    path = written(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as raw:
            inner = cast("IO[bytes]", gzip.GzipFile("", "wb", fileobj=raw, mtime=0)) if path.suffix == ".gz" else raw
            text = io.TextIOWrapper(inner, encoding="utf-8", newline="\n")
            yield text
            text.flush()
            text.detach()
            if inner is not raw:
                inner.close()
            raw.flush()
            os.fsync(raw.fileno())
        temporary.replace(path)
    except OSError as error:
        # What is written may be read from another file meanwhile.
        if error.filename is not None and Path(error.filename).parent != path.parent:
            raise StorageError(f"cannot be read: {error.strerror or error}", where=error.filename) from error
        raise StorageError(f"cannot be written: {error.strerror or error}", where=path) from error
    finally:
        temporary.unlink(missing_ok=True)


def written(path: Path) -> Path:
    """The file that is replaced when `path` is written: what a link leads to, so that it stays one.

    Raises:
        StorageError: there is something that is no file, such as a folder or a device, or the path is `-`.
    """
    if str(path) == "-":
        raise StorageError(
            "cannot be written: stdout keeps nothing of what is interrupted", where="-", hint="name a file"
        )
    path = path.resolve() if path.is_symlink() else path
    if path.is_dir():
        raise StorageError("cannot be written: is a folder", where=path)
    if path.exists() and not path.is_file():
        raise StorageError("cannot be written: is no file", where=path)
    return path
