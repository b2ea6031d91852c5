"""Reading zip archives within bounds, whatever they claim to hold."""

import io
import zipfile
import zlib

from engine.documents.expansion import HARMLESS_BYTES, MOST_EXPANSION
from engine.documents.extraction import MOST_BYTES, Unreadable

__all__ = ["Archive"]

MOST_MEMBERS = 20_000


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
            if content.startswith(b"\xd0\xcf\x11\xe0"):
                raise Unreadable(f"no {kind}: one with a password, or an older Word file") from error
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
