"""What a collection holds, and whether its parts agree."""

from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import FouilleError
from engine.reader import Reader

__all__ = ["info", "verify"]


def info(path: Path, reader: Reader) -> dict[str, Any]:
    """What the collection at `path` holds and remembers, as JSON values; sizes in bytes."""
    files = [file for file in reader.folder.rglob("*") if file.is_file()]
    sizes: dict[str, int] = {}
    for file in files:
        part = file.relative_to(reader.folder).parts[0].partition(".")[0]
        sizes[part] = sizes.get(part, 0) + file.stat().st_size
    return {
        "name": path.name,
        "path": str(path),
        **reader.catalog.counts(),
        **{name: value for name, value in reader.memory.items() if name != "uuid"},
        "sources": [{"name": one.name, "location": one.location} for one in reader.catalog.sources().values()],
        "sequence": reader.catalog.sequence,
        "applied": _applied(reader),
        "bytes": sizes,
    }


def _applied(reader: Reader) -> dict[str, int]:
    """The sequence that each index has reached; 0 for one that is not there yet."""
    kept = {"bm25": reader.has_bm25, "dense": reader.has_dense}
    indexes = {"bm25": reader.bm25, "dense": reader.dense}
    return {name: 0 if (index := indexes[name]) is None else index.applied for name, there in kept.items() if there}


def verify(path: Path, reader: Reader) -> dict[str, Any]:
    """Check every file and that each index holds exactly the catalog's passages at its sequence.

    An index that lags behind the catalog is pending: the next `fouille index` completes it. Everything else that does
    not fit is damage, and `problems` names it.
    """
    problems: list[str] = []
    applied: dict[str, int] = {}
    counts: dict[str, int] = {}
    try:
        problems += reader.catalog.check()
        counts = reader.catalog.counts()
        applied = _applied(reader)
        for name, index in (("bm25", reader.bm25), ("dense", reader.dense)):
            if index is None:
                continue
            index.verify()
            expected, found = reader.catalog.visible(index.applied), index.ids()
            if not np.array_equal(expected, found):
                missing, extra = len(np.setdiff1d(expected, found)), len(np.setdiff1d(found, expected))
                problems.append(
                    f"the {name} index lacks {missing} passages and holds {extra} that are not in the catalog"
                )
        problems += reader.tokens.verify(reader.catalog)
    except FouilleError as error:
        problems.append(str(error))
    pending = {name: reader.catalog.sequence - at for name, at in applied.items() if at < reader.catalog.sequence}
    return {
        "name": path.name,
        "path": str(path),
        "state": "damaged" if problems else "pending" if pending else "sound",
        "problems": problems,
        "pending": pending,
        **counts,
        "applied": applied,
    }
