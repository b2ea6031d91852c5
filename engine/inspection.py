"""What a collection holds, and whether its parts agree."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.errors import CollectionBusy, CollectionDamaged
from engine.reader import Reader

if TYPE_CHECKING:
    from indexes.bm25 import BM25Index
    from indexes.dense import DenseIndex

__all__ = ["info", "verify"]

_NAMED = 5
"""Altered documents that are named."""


def info(path: Path, reader: Reader) -> dict[str, Any]:
    """What the collection at `path` holds and remembers, as JSON values; sizes in bytes."""
    with reader.steady():
        return _info(path, reader)


def _info(path: Path, reader: Reader) -> dict[str, Any]:
    applied, sequence = _applied(reader), reader.catalog.sequence
    return {
        "name": path.name,
        "path": str(path),
        **reader.catalog.counts(),
        **{name: value for name, value in reader.memory.items() if name != "uuid"},
        "sources": [{"name": one.name, "location": one.location} for one in reader.catalog.sources().values()],
        "sequence": sequence,
        "applied": applied,
        "pending": _pending(applied, sequence),
        "bytes": _sizes(reader.folder),
    }


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes by part of the collection."""
    sizes: dict[str, int] = {}
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a writer takes files away
            status = file.stat()
            if S_ISREG(status.st_mode):
                part = file.relative_to(folder).parts[0].partition(".")[0]
                sizes[part] = sizes.get(part, 0) + status.st_size
    return sizes


def _pending(applied: Mapping[str, int], sequence: int) -> dict[str, int]:
    """How many write transactions each index lags behind the catalog, those that lag."""
    return {name: sequence - at for name, at in applied.items() if at < sequence}


def _applied(reader: Reader) -> dict[str, int]:
    """The sequence that each index has reached; 0 for one that is not there yet."""
    kept = {"bm25": reader.has_bm25, "dense": reader.has_dense}
    indexes = {"bm25": reader.bm25, "dense": reader.dense}
    return {name: 0 if (index := indexes[name]) is None else index.applied for name, there in kept.items() if there}


def verify(path: Path, reader: Reader) -> dict[str, Any]:
    """Check every file and that each index holds exactly the catalog's passages at its sequence.

    An index that lags behind the catalog is pending: the next `fouille index` completes it. Everything else that does
    not fit is damage, and `problems` names it.

    Raises:
        CollectionBusy: it is being written to.
        StorageError: the system refused to read it, or memory ran out.
    """
    problems: list[str] = []
    applied: dict[str, int] = {}
    counts: dict[str, int] = {}
    pending: dict[str, int] = {}
    try:
        problems += reader.catalog.check()
        counts = reader.catalog.counts()
        with reader.steady():
            problems += _altered(reader)
            counts, applied = reader.catalog.counts(), _applied(reader)
            pending = _pending(applied, reader.catalog.sequence)
            for name, index in (("bm25", reader.bm25), ("dense", reader.dense)):
                if index is not None:
                    problems += _compared(name, index, reader)
            problems += reader.tokens.verify(reader.catalog)
    except CollectionDamaged as error:
        problems.append(str(error))
    return {
        "name": path.name,
        "path": str(path),
        "state": "damaged" if problems else "pending" if pending else "sound",
        "problems": problems,
        "pending": pending,
        **counts,
        "applied": applied,
    }


def _altered(reader: Reader) -> list[str]:
    """Problems of the documents: what the catalog says now against the hash of what was indexed."""
    from engine.indexing import digest  # with all that reads documents, which a search does without

    altered = [document.key for document, written in reader.catalog.contents() if digest(document) != written]
    more = len(altered) - _NAMED
    named = [f"{key}: the catalog holds something else than was indexed" for key in altered[:_NAMED]]
    return [*named, f"{more:,} other documents likewise"] if more > 0 else named


def _compared(name: str, index: "BM25Index | DenseIndex", reader: Reader) -> list[str]:
    """Problems of one index: its files, then its passages beside the catalog's."""
    index.verify()
    if not reader.catalog.holds(index.applied):  # its files were taken away, and it moved on
        raise CollectionBusy("it is being written to", where=reader.folder.parent, hint="verify it again afterwards")
    expected, found = reader.catalog.visible(index.applied), index.ids()
    if np.array_equal(expected, found):
        return []
    missing, extra = len(np.setdiff1d(expected, found)), len(np.setdiff1d(found, expected))
    return [f"the {name} index lacks {missing} passages and holds {extra} that are not in the catalog"]
