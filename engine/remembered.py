"""What took time to find out, kept in the cache folder as small JSON files: losing one costs that time again."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.settings import cache_dir

__all__ = ["recall", "remember", "write_atomically"]


def recall(name: str) -> dict[str, Any]:
    """The facts of a file in the cache folder; none where it is missing or cannot be read."""
    try:
        found = json.loads((cache_dir() / name).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(name: str, facts: Mapping[str, Any]) -> bool:
    """Replace the facts of a file; False where the cache folder cannot be written: the next process finds them anew."""
    try:
        write_atomically(cache_dir() / name, json.dumps(facts, indent=0).encode())
    except OSError:
        return False
    return True


def write_atomically(path: Path, content: bytes) -> None:
    """Put a whole file in place or leave what was there; makes the folder. Processes may do so at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
