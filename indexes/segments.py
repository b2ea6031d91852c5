"""What is stored for each passage in arrays (vectors, tokens): immutable segments under an atomic manifest.

One writer at a time, which the caller's lock ensures; any number of readers, which never write and never wait. A
writer appends segments that are durable at once (so that an interrupted encoding resumes) but that no reader sees
before `commit`, which publishes appends, deletions and merges in one replacement of the manifest.

Merging is tiered: eight segments of one tier become one of the next, so a row is rewritten at most log8(n) times;
a segment of which three tenths are deleted is rewritten without them.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import CollectionDamaged
from engine.ragged import offsets_of
from engine.records import Ragged
from indexes.durable import TEMPORARY, damaged, refused, write_through
from indexes.manifest import MANIFEST, Attachment, Manifest, read_manifest, write_manifest
from indexes.sealed import SealedArray, SealedFile, StoredFile, seal
from indexes.segment import Segment, due_merges, file_digest, merged_arrays, segment_arrays

__all__ = ["SegmentStore"]

_SUFFIXES = (".segment", ".deletions", ".attachment", TEMPORARY)
_ATTEMPTS = 20
_NO_ROWS: NDArray[np.int64] = np.empty(0, np.int64)


class SegmentStore:
    """Rows of numbers by passage id, of one width or ragged, on disk.

    Attributes:
        folder: where it lies.
        segments: open segments that readers see; positions in them are (segment, row).
    """

    def __init__(self, folder: Path) -> None:
        """Open a store; nothing is written before the first `append` or `commit`.

        Raises:
            CollectionDamaged: a file is missing, truncated or foreign.
            CollectionOutdated: written by a newer fouille.
            StorageError: the system refused to read.
        """
        self.folder = folder
        self.segments: tuple[Segment, ...] = ()
        self._pending: tuple[Segment, ...] = ()
        self._doomed: NDArray[np.int64] = np.empty(0, np.int64)
        self._writing = False
        self._manifest = Manifest(kind={})
        self._load()

    @classmethod
    def create(cls, folder: Path, *, kind: Mapping[str, Any]) -> "SegmentStore":
        """Make an empty store in `folder`, which is created when missing.

        Args:
            folder: must hold no store yet.
            kind: JSON values; `dtype` (a numpy name) and `width` (values per row, None for ragged rows) say what a
                row is; anything else (a model's hash) is the caller's.

        Raises:
            CollectionDamaged: segments lie there without a manifest.
            StorageError: the system refused to write.
        """
        if (folder / MANIFEST).exists():
            raise ValueError(f"{folder} already holds a store")
        with refused(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if any(file.suffix == ".segment" for file in folder.iterdir()):
                raise damaged(folder / MANIFEST, "is missing")
        write_manifest(folder, Manifest(kind=dict(kind)))
        return cls(folder)

    @property
    def kind(self) -> Mapping[str, Any]:
        """What `create` was given."""
        return self._manifest.kind

    @property
    def applied(self) -> int:
        """The catalog's sequence that the visible rows are complete for."""
        return self._manifest.applied

    @property
    def count(self) -> int:
        """Visible rows."""
        return sum(segment.live_count for segment in self.segments)

    def ids(self) -> NDArray[np.int64]:
        """Ids of the visible rows, ascending: int64[n]."""
        return np.sort(
            np.concatenate([np.empty(0, np.int64), *(segment.ids[segment.live_rows()] for segment in self.segments)])
        )

    def stored(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of `ids` need not be appended: visible or pending, and not deleted since: bool[m]."""
        found = np.zeros(len(ids), np.bool_)
        for segment in (*self.segments, *self._pending):
            found |= segment.find(ids) >= 0
        return found & ~np.isin(ids, self._doomed)

    def pending_ids(self) -> NDArray[np.int64]:
        """Ids that the next commit will publish, deleted ones aside, ascending: int64[n]."""
        ids = np.concatenate([_NO_ROWS, *(segment.ids for segment in self._pending)])
        return np.setdiff1d(ids, self._doomed)

    def rows(self, ids: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Rows of one width.

        Args:
            ids: int64[m], in any order.

        Returns:
            [m, width] of the store's dtype, zeros where there is no such row; bool[m], whether there is.

        Raises:
            CollectionDamaged: a page read does not match its checksum.
        """
        rows = np.zeros((len(ids), self._width()), self.kind["dtype"])
        found = np.zeros(len(ids), np.bool_)
        for segment, here, places in self._locate(ids):
            rows[here] = segment.rows(places)
            found[here] = True
        return rows, found

    def ragged(self, ids: NDArray[np.int64]) -> tuple[Ragged, NDArray[np.bool_]]:
        """Ragged rows, in the order of `ids` (int64[m]); empty where there is none. Returns and raises as `rows`."""
        found = np.zeros(len(ids), np.bool_)
        lengths = np.zeros(len(ids), np.int64)
        located = list(self._locate(ids))
        for segment, here, places in located:
            found[here] = True
            lengths[here] = segment.lengths(places)
        offsets = offsets_of(lengths)
        values = np.empty(int(offsets[-1]), self.kind["dtype"])
        for segment, here, places in located:
            segment.copy_ragged(places, values, offsets[here])
        return Ragged(values, offsets), found

    def refresh(self) -> bool:
        """See what was committed since; returns whether anything changed. Raises as opening does."""
        before = self._manifest
        self._load()
        return before != self._manifest

    def append(self, ids: NDArray[np.int64], rows: NDArray[Any] | Ragged) -> None:
        """Store rows durably; readers see them after `commit`.

        Args:
            ids: int64[m], distinct, none stored yet.
            rows: [m, width], or a `Ragged` of m rows, of the store's dtype.

        Raises:
            StorageError: the system refused to write; nothing changed.
            ValueError: ids or rows that cannot be stored.
        """
        self._begin()
        ids = np.asarray(ids, np.int64)
        if len(np.unique(ids)) != len(ids):
            raise ValueError("an id is given twice")
        if any((segment.find(ids) >= 0).any() for segment in (*self.segments, *self._pending)):
            raise ValueError("an id is already stored; ids are never reused")
        if not len(ids):
            return
        arrays = segment_arrays(self.kind, ids, rows)

        def draft(manifest: Manifest) -> Manifest:
            manifest, stored = self._write(manifest, "segment", arrays)
            return replace(manifest, pending=(*manifest.pending, stored))

        self._publish(draft)
        self._merge_pending()

    def delete(self, ids: NDArray[np.int64]) -> int:
        """Mark rows, visible or pending, as deleted from the next commit on; returns how many. Others are ignored."""
        ids = np.unique(np.asarray(ids, np.int64))
        known = ids[self.stored(ids)]
        self._doomed = np.union1d(self._doomed, known)
        return len(known)

    def commit(self, applied: int) -> None:
        """Publish appends and deletions, complete for the catalog's sequence `applied`, and merge what is due.

        Raises:
            StorageError: the system refused to write; readers see what they saw, and commit can be called again.
            ValueError: `applied` goes backwards.
        """
        self._begin()
        if applied < self.applied:
            raise ValueError(f"sequence {applied} is behind {self.applied}")
        segments = [segment.without(self._doomed) for segment in (*self.segments, *self._pending)]
        groups = due_merges(segments)
        if groups or self._pending or len(self._doomed) or applied != self.applied:
            self._publish(
                lambda manifest: replace(self._draft(manifest, segments, groups), applied=applied, pending=())
            )
        self._doomed = _NO_ROWS

    def verify(self) -> None:
        """Check every byte of every file that counts, as of the latest commit.

        Raises:
            CollectionDamaged: a file is missing or altered; names it.
            StorageError: the system refused to read.
        """
        self._load()
        try:
            self._verify()
        except CollectionDamaged:
            # A writer may have replaced what was being read; once more, and it is damage.
            if not self.refresh():
                raise
            self._verify()

    def _verify(self) -> None:
        seen = _NO_ROWS
        for segment in (*self.segments, *self._pending):
            segment.file.check()
            ids = segment.ids[segment.live_rows()]
            if np.isin(ids, seen).any():
                raise damaged(segment.file.path, "holds an id that another segment holds")
            seen = np.concatenate([seen, ids])
        for name in self._manifest.attachments:
            self.attachment(name, check=True)

    def attach(self, name: str, write: Callable[[Path], None], *, about: Mapping[str, Any]) -> None:
        """Publish a file derived from the rows, in place of the one of this name; `write` fills the path it is given.

        Raises:
            StorageError: the system refused to write; the former attachment stands.
        """
        self._begin()

        def draft(manifest: Manifest) -> Manifest:
            numbered = manifest.numbered + 1
            path = self.folder / f"{numbered:08d}.attachment"
            write_through(path, write)
            stored = StoredFile(path.name, *file_digest(path), 0)
            attachments = {**manifest.attachments, name: Attachment(stored, dict(about))}
            return replace(manifest, numbered=numbered, attachments=attachments)

        self._publish(draft)

    def detach(self, name: str) -> None:
        """Withdraw an attachment, if there is one. Raises as `attach`."""
        self._begin()
        kept = {key: value for key, value in self._manifest.attachments.items() if key != name}
        if len(kept) < len(self._manifest.attachments):
            self._publish(lambda manifest: replace(manifest, attachments=kept))

    def attachment(self, name: str, *, check: bool) -> tuple[Path, Attachment] | None:
        """An attached file and what its maker noted; None when there is none.

        Args:
            name: as given to `attach`.
            check: compare the whole file with its digest first (about 4 GB/s).

        Raises:
            CollectionDamaged: missing, truncated or altered.
        """
        attachment = self._manifest.attachments.get(name)
        if attachment is None:
            return None
        path = self.folder / attachment.file.name
        try:
            if check and file_digest(path) != (attachment.file.size, attachment.file.digest):
                raise damaged(path, "does not match its checksum")
        except FileNotFoundError as error:
            raise damaged(path, "is missing") from error
        return path, attachment

    def attachment_name(self, name: str) -> str | None:
        """The file of an attachment, which changes whenever it is replaced; None when there is none."""
        attachment = self._manifest.attachments.get(name)
        return None if attachment is None else attachment.file.name

    def _width(self) -> int:
        width = self.kind["width"]
        if not isinstance(width, int):
            raise ValueError("this store holds ragged rows")
        return width

    def _locate(self, ids: NDArray[np.int64]) -> Iterator[tuple[Segment, NDArray[np.int64], NDArray[np.int64]]]:
        """For each segment that holds some of `ids`: positions in `ids`, and rows there."""
        for segment in self.segments:
            places = segment.find(ids)
            here = np.flatnonzero(places >= 0)
            if len(here):
                yield segment, here, places[here]

    def _load(self) -> None:
        """Open what the manifest names; a file that a merge just removed means that the manifest has moved on."""
        known = {segment.stored: segment for segment in (*self.segments, *self._pending)}
        missing = ""
        for _ in range(_ATTEMPTS):
            manifest = read_manifest(self.folder)
            try:
                dead = self._read_deletions(manifest)
                segments = tuple(
                    self._open(file, known, dead.get(number, _NO_ROWS)) for number, file in enumerate(manifest.segments)
                )
                pending = tuple(self._open(file, known, _NO_ROWS) for file in manifest.pending)
            except FileNotFoundError as error:
                missing = error.filename
                continue
            self._manifest, self.segments, self._pending = manifest, segments, pending
            return
        raise damaged(Path(missing), "is missing")

    def _open(self, stored: StoredFile, known: Mapping[StoredFile, Segment], dead: NDArray[np.int64]) -> Segment:
        file = known[stored].file if stored in known else SealedFile(self.folder / stored.name, stored, "segment")
        return Segment(file, stored, dead)

    def _read_deletions(self, manifest: Manifest) -> dict[int, NDArray[np.int64]]:
        """Deleted rows by the number of their segment in the manifest."""
        if manifest.deletions is None:
            return {}
        file = SealedFile(self.folder / manifest.deletions.name, manifest.deletions, "deletions")
        segments, rows = file.checked("segments"), file.checked("rows")
        return {number: rows[segments == number] for number in np.unique(segments).tolist()}

    def _begin(self) -> None:
        """Before a write: take the state as it stands, and at first clean up after writers that were killed."""
        if read_manifest(self.folder) != self._manifest:
            self._load()
        if not self._writing:
            self._sweep()
            self._writing = True

    def _sweep(self) -> None:
        """Remove what the manifest does not name. What cannot be removed now is left to the next writer."""
        kept = self._manifest.names()
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name not in kept and entry.name.endswith(_SUFFIXES):
                    with suppress(OSError):
                        Path(entry.path).unlink()

    def _publish(self, draft: Callable[[Manifest], Manifest]) -> None:
        """Write the files that `draft` writes, then the manifest that it returns; after a failure, tidy up."""
        try:
            write_manifest(self.folder, draft(self._manifest))
        finally:
            # The folder is read again even after a failure: a rename may have succeeded and its sync not.
            self._load()
            self._sweep()

    def _write(self, manifest: Manifest, kind: str, arrays: Mapping[str, SealedArray]) -> tuple[Manifest, StoredFile]:
        """Seal a file under the next free name, and count it."""
        numbered = manifest.numbered + 1
        rows = next(iter(arrays.values())).shape[0]
        stored = seal(self.folder / f"{numbered:08d}.{kind}", kind, arrays, rows)
        return replace(manifest, numbered=numbered), stored

    def _merged(
        self, manifest: Manifest, segments: Sequence[Segment], groups: Iterable[Sequence[Segment]]
    ) -> tuple[Manifest, list[tuple[StoredFile, NDArray[np.int64]]]]:
        """Write each group as one segment; returns all that remains, with its deleted rows."""
        gone: set[StoredFile] = set()
        made: list[tuple[StoredFile, NDArray[np.int64]]] = []
        for group in groups:
            gone.update(segment.stored for segment in group)
            if any(segment.live_count for segment in group):
                manifest, stored = self._write(manifest, "segment", merged_arrays(self.kind, group))
                made.append((stored, _NO_ROWS))
        kept = [(segment.stored, segment.dead) for segment in segments if segment.stored not in gone]
        return manifest, kept + made

    def _merge_pending(self) -> None:
        groups = [group for group in due_merges(self._pending) if len(group) > 1]
        if not groups:
            return

        def draft(manifest: Manifest) -> Manifest:
            manifest, files = self._merged(manifest, self._pending, groups)
            return replace(manifest, pending=tuple(stored for stored, _ in files))

        self._publish(draft)

    def _draft(self, manifest: Manifest, segments: Sequence[Segment], groups: Iterable[Sequence[Segment]]) -> Manifest:
        """The manifest of `segments`, merged by groups, once merged segments and deletions are written."""
        manifest, files = self._merged(manifest, segments, groups)
        deletions = None
        dead = [rows for _, rows in files]
        if any(map(len, dead)):
            numbers = np.repeat(np.arange(len(files)), [len(rows) for rows in dead])
            arrays = {"segments": SealedArray.whole(numbers), "rows": SealedArray.whole(np.concatenate(dead))}
            manifest, deletions = self._write(manifest, "deletions", arrays)
        return replace(manifest, segments=tuple(stored for stored, _ in files), deletions=deletions)
