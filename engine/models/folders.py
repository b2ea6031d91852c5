"""Folders that are whole or absent: filled under a temporary name, synced, renamed."""

import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import StorageError

__all__ = ["put_in_place", "sweep", "write"]

_ABANDONED_SECONDS = 3600.0
_HINTS = {
    errno.ENOTEMPTY: "choose another folder",
    errno.EEXIST: "choose another folder",
    errno.ENOTDIR: "choose another folder",
    errno.ENOSPC: "free some space and run the command again",
}


@contextmanager
def put_in_place(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """An empty folder to fill; when the block ends without an error it becomes `folder`.

    Args:
        folder: to make; it must not exist, or be empty.
        replace: take away the folder that is there.

    Raises:
        StorageError: the folder is taken, or the system refused.
    """
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if replace and folder.exists():
            old = temporary.with_name(f"{temporary.name}.old")
            folder.rename(old)
            try:
                temporary.rename(folder)
            except BaseException:
                old.rename(folder)
                raise
            shutil.rmtree(old)
        else:
            temporary.rename(folder)
        _sync(folder.parent)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        if error.filename is not None and not _has_to_do(Path(error.filename), folder, temporary):
            raise StorageError(f"cannot be read: {reason}", where=error.filename) from error
        hint = _HINTS.get(error.errno or 0, "check permissions and free space")
        raise StorageError(reason, where=folder, hint=hint) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _has_to_do(path: Path, folder: Path, temporary: Path) -> bool:
    """Whether a failure at `path` is one of making `folder`, not of reading what goes into it."""
    return path.is_relative_to(temporary) or folder.is_relative_to(path)


def write(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write and sync a file of a folder that is not in place yet; makes its parents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.writelines(chunks)
        stream.flush()
        os.fsync(stream.fileno())


def sweep(folder: Path) -> None:
    """Remove what a process that was killed left beside `folder` an hour ago or longer."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        try:
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left)
        except OSError:
            continue  # another process removes it too, or it is not ours to remove


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
