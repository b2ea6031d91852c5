"""Records on disk, read back by number: what a training draws from may be larger than the memory."""

import json
import tempfile
import weakref
from array import array
from pathlib import Path
from typing import Any

from engine.errors import StorageError

__all__ = ["Spool"]


class Spool:
    """JSON records in a temporary file that no other process sees and that is gone when this one ends.

    Memory: 8 bytes a record.

    Args:
        folder: on whose disk; None for the system's folder of temporary files.

    Raises:
        StorageError: the system refused to make the file, or to write to it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=1 << 20)  # noqa: SIM115 - lives as long as this
        except OSError as error:
            raise _refused(error, folder) from error
        weakref.finalize(self, self._file.close)
        self._folder = folder
        self._offsets = array("q", [0])
        self._flushed = True

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def append(self, record: Any) -> int:
        """Adds a record; returns its number."""
        line = json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass")
        try:
            self._file.seek(self._offsets[-1])
            self._file.write(line)
        except OSError as error:
            raise _refused(error, self._folder) from error
        self._offsets.append(self._offsets[-1] + len(line))
        self._flushed = False
        return len(self) - 1

    def __getitem__(self, number: int) -> Any:
        if not 0 <= number < len(self):
            raise IndexError(number)
        start, end = self._offsets[number], self._offsets[number + 1]
        try:
            if not self._flushed:
                self._file.flush()
                self._flushed = True
            self._file.seek(start)
            line = self._file.read(end - start)
        except OSError as error:
            raise _refused(error, self._folder) from error
        return json.loads(line.decode("utf-8", "surrogatepass"))


def _refused(error: OSError, folder: Path | None) -> StorageError:
    where = folder or tempfile.gettempdir()
    return StorageError(f"no room for what is read: {error.strerror or error}", where=where, hint="free some space")
