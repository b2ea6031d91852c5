"""Reading files, gzip and zip archives within bounds, whatever they claim to hold."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from engine.documents.extraction import MOST_BYTES, Unreadable

__all__ = ["Archive", "open_expanded", "read_expanded"]

# Text shrinks to a fifth, repetitive records to a fiftieth; bombs to a thousandth. Small ones do no harm.
MOST_EXPANSION = 200
HARMLESS_BYTES = 64 * 1024 * 1024
MOST_MEMBERS = 20_000


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


class Archive:
    """A zip archive in memory, of which members are read one by one and never written.

    Args:
        content: the archive.
        kind: the format it should be, for the reasons given.

    Raises:
        Unreadable: it is no zip archive, or has too many members.
    """

    def __init__(self, content: bytes, kind: str) -> None:
        self._kind, self._size, self._read = kind, len(content), 0
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(content))
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
            raise Unreadable(f"broken {kind}, not a sound zip archive") from error
        if len(self._zip.filelist) > MOST_MEMBERS:
            raise Unreadable(f"broken {kind}, more than {MOST_MEMBERS} members")

    def names(self) -> set[str]:
        """Its members."""
        return set(self._zip.namelist())

    def member(self, name: str) -> bytes:
        """The content of a member.

        Raises:
            Unreadable: it is missing, encrypted, damaged, or all that was read so far expands without measure.
        """
        try:
            info = self._zip.getinfo(name)
        except KeyError as error:
            raise Unreadable(f"broken {self._kind}, {name!r} is missing") from error
        if info.flag_bits & 1:
            raise Unreadable(f"encrypted {self._kind}")
        # zipfile reads no more than the size that a member declares, so checking that size bounds the expansion.
        self._read += info.file_size
        if self._read > min(MOST_BYTES, max(HARMLESS_BYTES, self._size * MOST_EXPANSION)):
            raise Unreadable(f"expands to more than {MOST_EXPANSION} times its size, or {MOST_BYTES // 1024**2} MB")
        try:
            return self._zip.read(info)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as error:
            raise Unreadable(f"broken {self._kind}, {name!r} is damaged") from error
