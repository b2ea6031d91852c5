"""Files that are whole or absent: written under a temporary name, synced, renamed; then their folder is synced.

Nothing here writes to a file that a reader may have open. A process killed between any two system calls leaves at
worst a `*.tmp` file or one that no manifest names; the next writer removes both.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import CollectionDamaged, CollectionNotFound, StorageError

__all__ = ["TEMPORARY", "damaged", "read_bytes", "refused", "replace_file", "sync_folder", "write_through"]

TEMPORARY = ".tmp"

_HINTS = {
    errno.ENOSPC: "free some space and run the command again",
    errno.EDQUOT: "free some of your quota and run the command again",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "check the permissions of the folder",
    errno.EPERM: "check the permissions of the folder",
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
}

Chunk = bytes | bytearray | memoryview


def damaged(path: Path, what: str) -> CollectionDamaged:
    """The error for a file whose content cannot be trusted; names the file and the way out."""
    return CollectionDamaged(what, where=path, hint="rebuild it from its sources: fouille index SOURCE... --rebuild")


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """Turn what the system refuses into a `StorageError` that names `path`; a missing file passes through."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StorageError(reason.lower(), where=path, hint=_HINTS.get(error.errno or 0)) from error


def read_bytes(path: Path) -> bytes:
    """The content of a small file.

    Raises:
        FileNotFoundError: there is none; the caller knows what that means.
        StorageError: the system refused.
    """
    with refused(path):
        return path.read_bytes()


def replace_file(path: Path, chunks: Iterable[Chunk]) -> None:
    """Make `path` hold `chunks`, durably and all or nothing: after a failure it is what it was before.

    Raises:
        StorageError: the disk is full, the folder read-only or forbidden.
        CollectionNotFound: the folder is gone.
    """

    def write(temporary: Path) -> None:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            for chunk in chunks:
                rest = memoryview(chunk).cast("B")
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)

    write_through(path, write)


def write_through(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file, then put it in place of `path`; guarantees and errors of `replace_file`."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with refused(path):
            write(temporary)
            descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.replace(path)
            sync_folder(path.parent)
    except FileNotFoundError as error:
        raise CollectionNotFound("the folder is gone", where=path.parent) from error
    except BaseException:
        # A full disk is the usual reason to be here: give the space back at once, and keep the first error.
        with suppress(OSError):
            temporary.unlink()
        raise


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
