"""Content hashes of model files, remembered by path, size and time of change: a start does not read them again."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from engine.remembered import recall, remember

__all__ = ["content_hash"]

_REMEMBERED = "model-hashes.json"
_MOST_REMEMBERED = 500


def content_hash(files: Sequence[Path], *salt: str) -> str:
    """A hash of what the files hold, in the order given, and of their names; 32 hexadecimal digits.

    Args:
        files: files that exist.
        salt: further text that the hash depends on.
    """
    remembered = {key: known for key, known in recall(_REMEMBERED).items() if isinstance(known, str)}
    before = len(remembered)
    whole = hashlib.sha256("\0".join(salt).encode())
    for file in files:
        state = file.stat()
        key = f"{file.resolve()}:{state.st_size}:{state.st_mtime_ns}"
        if key not in remembered:
            with file.open("rb") as stream:
                remembered[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        whole.update(f"\0{file.name}\0{remembered[key]}".encode())
    if len(remembered) > before:
        remember(_REMEMBERED, dict(list(remembered.items())[-_MOST_REMEMBERED:]))
    return whole.hexdigest()[:32]
