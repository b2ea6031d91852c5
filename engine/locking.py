"""One writer at a time, by a lock that the system frees when its holder dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import CollectionBusy, StorageError

__all__ = ["locked"]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, `write.lock`; its descriptor is closed on exec, so no spawned child inherits it.

    Raises:
        CollectionBusy: another process holds it; said at once.
        StorageError: the file cannot be opened for writing.
    """
    from filelock import FileLock, Timeout

    path = folder / "write.lock"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CollectionBusy("another process is writing here", where=folder, hint="wait for it to end") from error
    except OSError as error:
        raise StorageError(error.strerror or str(error), where=path, hint="check permissions and free space") from error
    try:
        yield
    finally:
        lock.release()
