"""Content hashes of model files, remembered by path, size and time of change: a start does not read them again."""

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from engine.settings import cache_dir

__all__ = ["content_hash", "write_atomically"]

_REMEMBERED = "model-hashes.json"
_MOST_REMEMBERED = 500


def content_hash(files: Sequence[Path], *salt: str) -> str:
    """A hash of what the files hold, in the order given, and of their names; 32 hexadecimal digits.

    Args:
        files: files that exist.
        salt: further text that the hash depends on.
    """
    cache = cache_dir() / _REMEMBERED
    remembered = _remembered(cache)
    known = len(remembered)
    whole = hashlib.sha256("\0".join(salt).encode())
    for file in files:
        state = file.stat()
        key = f"{file.resolve()}:{state.st_size}:{state.st_mtime_ns}"
        if key not in remembered:
            with file.open("rb") as stream:
                remembered[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        whole.update(f"\0{file.name}\0{remembered[key]}".encode())
    if len(remembered) > known:
        newest = dict(list(remembered.items())[-_MOST_REMEMBERED:])
        with suppress(OSError):  # a cache that cannot be written costs time, not correctness
            write_atomically(cache, json.dumps(newest, indent=0).encode())
    return whole.hexdigest()[:32]


def write_atomically(path: Path, content: bytes) -> None:
    """Put a whole file in place or leave what was there; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _remembered(cache: Path) -> dict[str, str]:
    try:
        found = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(key): value for key, value in found.items() if isinstance(value, str)}
