"""Reading files, gzipped or not, within bounds."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from engine.documents.extraction import MOST_BYTES, Unreadable

__all__ = ["HARMLESS_BYTES", "MOST_EXPANSION", "open_expanded", "read_expanded"]

# Text shrinks to a fifth, repetitive records to a fiftieth; bombs to a thousandth. Small ones do no harm.
MOST_EXPANSION = 200
HARMLESS_BYTES = 64 * 1024 * 1024


class _Expanding(io.RawIOBase):
    """A gzip stream that stops when it expands like a bomb."""

    def __init__(self, compressed: BinaryIO, size: int) -> None:
        self._gzip = gzip.GzipFile(fileobj=compressed)
        self._most = max(HARMLESS_BYTES, size * MOST_EXPANSION)
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        try:
            count = self._gzip.readinto(buffer)
        except (gzip.BadGzipFile, zlib.error) as error:
            raise Unreadable("broken gzip file") from error
        except EOFError as error:
            raise Unreadable("truncated gzip file") from error
        self._read += count
        if self._read > self._most:
            raise Unreadable(f"expands to more than {MOST_EXPANSION} times its size")
        return count


@contextmanager
def open_expanded(path: Path) -> Iterator[BinaryIO]:
    """A file's content as a stream, gunzipped when its name ends in `.gz`.

    Raises:
        Unreadable: while reading, when it is no gzip file, truncated, or expands without measure.
        OSError: it cannot be opened or read.
    """
    with path.open("rb") as file:
        if path.name.lower().endswith(".gz"):
            expanding = _Expanding(file, path.stat().st_size)
            yield cast(BinaryIO, io.BufferedReader(expanding, buffer_size=1024 * 1024))
        else:
            yield file


def read_expanded(path: Path) -> bytes:
    """A file's whole content, gunzipped when its name ends in `.gz`.

    Raises:
        Unreadable: as `open_expanded`, and when it is too large.
        OSError: it cannot be opened or read.
    """
    with open_expanded(path) as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise Unreadable(f"larger than {MOST_BYTES // 1024**2} MB")
    return content
