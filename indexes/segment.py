"""One immutable segment: rows by ascending id, and which of them are deleted."""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.ragged import among, offsets_of, ranges
from engine.records import Ragged
from indexes.durable import refused
from indexes.sealed import SealedArray, SealedFile, StoredFile, checksums, digest

__all__ = ["Segment", "due_merges", "file_digest", "merged_arrays", "segment_arrays"]

_FOREIGN_PAGE = 1 << 20
_MERGE_BLOCK = 8192
_TIER_FANOUT = 8
_TIER_FLOOR = 1024
_DEAD_SHARE = 0.3
_NONE: NDArray[np.int64] = np.empty(0, np.int64)


def file_digest(path: Path) -> tuple[int, str]:
    """Size and digest of a file of any format.

    Raises:
        FileNotFoundError: there is none.
        StorageError: the system refused to read.
    """
    with refused(path), path.open("rb") as file:
        size = file.seek(0, 2)
        if not size:
            return 0, digest(np.empty(0, np.uint32)).hex()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            return size, digest(checksums(view, _FOREIGN_PAGE)).hex()


def segment_arrays(
    kind: Mapping[str, Any], ids: NDArray[np.int64], rows: NDArray[Any] | Ragged
) -> dict[str, SealedArray]:
    """The arrays of a new segment, rows put in the order of their ids.

    Raises:
        ValueError: rows that are not of this kind, or not as many as the ids.
    """
    order = np.argsort(ids, kind="stable")
    values = rows.values if isinstance(rows, Ragged) else rows
    if values.dtype.name != kind["dtype"]:
        raise ValueError(f"rows of {values.dtype.name} in a store of {kind['dtype']}")
    if not isinstance(rows, Ragged):
        if rows.shape != (len(ids), kind["width"]):
            raise ValueError(f"rows of shape {rows.shape}, not {(len(ids), kind['width'])}")
        return {"ids": SealedArray.whole(ids[order]), "values": SealedArray.whole(rows[order])}
    lengths = np.diff(rows.offsets)
    if kind["width"] is not None or len(lengths) != len(ids) or (lengths < 0).any():
        raise ValueError("ragged rows that do not fit the ids or the store")
    if rows.offsets[0] != 0 or rows.offsets[-1] != len(values):
        raise ValueError("offsets do not span the values")
    positions = ranges(rows.offsets[:-1][order], lengths[order])
    return {
        "ids": SealedArray.whole(ids[order]),
        "offsets": SealedArray.whole(offsets_of(lengths[order])),
        "values": SealedArray.whole(values[positions]),
    }


class Segment:
    """An open segment with the rows of it that are deleted.

    Attributes:
        file: its sealed file.
        stored: what the manifest says of it.
        dead: int64, deleted rows, ascending.
    """

    def __init__(self, file: SealedFile, stored: StoredFile, dead: NDArray[np.int64] = _NONE) -> None:
        self.file, self.stored, self.dead = file, stored, dead
        self._ids: NDArray[np.int64] | None = None
        self._live: NDArray[np.int64] | None = None

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of all rows, deleted ones too, ascending: int64[rows]. Checked at first use."""
        if self._ids is None:
            self._ids = self.file.checked("ids")
        return self._ids

    @property
    def live_count(self) -> int:
        """Rows that are not deleted."""
        return self.stored.rows - len(self.dead)

    def live_rows(self) -> NDArray[np.int64]:
        """Rows that are not deleted, ascending."""
        if self._live is None:
            self._live = np.delete(np.arange(self.stored.rows), self.dead)
        return self._live

    def without(self, ids: NDArray[np.int64]) -> "Segment":
        """The same segment with these ids deleted as well."""
        places = self.find(ids)
        places = places[places >= 0]
        return Segment(self.file, self.stored, np.union1d(self.dead, places)) if len(places) else self

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row of each id, -1 where it is absent or deleted: int64[m]."""
        if not len(ids) or not self.stored.rows:
            return np.full(len(ids), -1, np.int64)
        places = np.minimum(np.searchsorted(self.ids, ids), self.stored.rows - 1)
        places[self.ids[places] != ids] = -1
        if len(self.dead):
            places[among(places, self.dead)] = -1
        return places

    def rows(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """Rows of one width, checked: [m, width]."""
        self.file.check_rows("values", places, places + 1)
        found: NDArray[Any] = self.file.arrays["values"][places]
        return found

    def lengths(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Values in each ragged row: int64[m]."""
        offsets = self.file.checked("offsets")
        lengths: NDArray[np.int64] = offsets[places + 1] - offsets[places]
        return lengths

    def copy_ragged(self, places: NDArray[np.int64], values: NDArray[Any], at: NDArray[np.int64]) -> None:
        """Copy ragged rows, checked, into `values`, row i to `values[at[i]:]`."""
        offsets = self.file.checked("offsets")
        starts, stops = offsets[places], offsets[places + 1]
        self.file.check_rows("values", starts, stops)
        lengths = stops - starts
        values[ranges(at, lengths)] = self.file.arrays["values"][ranges(starts, lengths)]


def merged_arrays(kind: Mapping[str, Any], segments: Sequence[Segment]) -> dict[str, SealedArray]:
    """The live rows of several segments as the arrays of one; read block by block, and checked on the way."""
    rows = [segment.live_rows() for segment in segments]
    ids = np.concatenate([segment.ids[live] for segment, live in zip(segments, rows, strict=True)])
    order = np.argsort(ids, kind="stable")
    places = np.concatenate(rows)[order]
    sources = np.repeat(np.arange(len(segments)), [len(live) for live in rows])[order]
    blocks = [slice(at, at + _MERGE_BLOCK) for at in range(0, len(order), _MERGE_BLOCK)]
    arrays = {"ids": SealedArray.whole(ids[order])}
    if kind["width"] is not None:

        def fixed() -> Iterator[NDArray[Any]]:
            for block in blocks:
                part = np.empty((len(places[block]), kind["width"]), kind["dtype"])
                for source in np.unique(sources[block]).tolist():
                    here = sources[block] == source
                    part[here] = segments[source].rows(places[block][here])
                yield part

        return arrays | {"values": SealedArray(kind["dtype"], (len(ids), kind["width"]), fixed())}

    lengths = np.empty(len(ids), np.int64)
    for source, segment in enumerate(segments):
        lengths[sources == source] = segment.lengths(places[sources == source])

    def ragged() -> Iterator[NDArray[Any]]:
        for block in blocks:
            bounds = offsets_of(lengths[block])
            part = np.empty(int(bounds[-1]), kind["dtype"])
            for source in np.unique(sources[block]).tolist():
                here = sources[block] == source
                segments[source].copy_ragged(places[block][here], part, bounds[:-1][here])
            yield part

    offsets = offsets_of(lengths)
    values = SealedArray(kind["dtype"], (int(offsets[-1]),), ragged())
    return arrays | {"offsets": SealedArray.whole(offsets), "values": values}


def due_merges(segments: Sequence[Segment]) -> list[list[Segment]]:
    """The groups of segments that are due to become one each; a group of one sheds its deletions."""
    groups = [[segment] for segment in segments if not _mostly_live(segment)]
    sound = [[segment] for segment in segments if _mostly_live(segment)]
    while True:
        tiers: dict[int, list[list[Segment]]] = {}
        for group in sound:
            tiers.setdefault(_tier(sum(segment.live_count for segment in group)), []).append(group)
        full = next((tier for tier in sorted(tiers) if len(tiers[tier]) >= _TIER_FANOUT), None)
        if full is None:
            break
        sound = [group for tier, members in tiers.items() if tier != full for group in members]
        sound.append([segment for group in tiers[full] for segment in group])
    return groups + [group for group in sound if len(group) > 1]


def _mostly_live(segment: Segment) -> bool:
    return len(segment.dead) < _DEAD_SHARE * segment.stored.rows


def _tier(rows: int) -> int:
    tier = 0
    while rows >= _TIER_FLOOR * _TIER_FANOUT**tier:
        tier += 1
    return tier
