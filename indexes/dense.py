"""The bi-encoder's first stage: passages by inner product with a question, over L2-normalised vectors kept in fp16.

Up to `FLAT_LIMIT` passages every vector is read (`indexes.exact`); beyond, a FAISS index proposes and the stored
vectors decide (`indexes.approximate`). Either way a score is the exact inner product with the stored vector.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.records import Ranking
from indexes.approximate import FLAT_LIMIT, ApproximateIndex, attached, detach_if_overtaken, keep_up
from indexes.durable import damaged
from indexes.exact import Selection, exact_search, inner_products
from indexes.manifest import MANIFEST
from indexes.segments import SegmentStore

__all__ = ["DenseIndex", "DenseWriter"]

_NORM_TOLERANCE = 0.01


class DenseWriter:
    """Writes vectors; one at a time, which the collection's lock ensures.

    A context manager: what was added stays stored for a later `commit` to publish, whatever happens; deletions that
    were not committed are forgotten.
    """

    def __init__(self, folder: Path, dimension: int | None, about: Mapping[str, Any] | None = None) -> None:
        """Open the index in `folder`, or create it when there is none.

        Args:
            folder: where it lies.
            dimension: values in a vector; None for those of the index that there is.
            about: JSON values to keep beside, such as the encoder's hash.

        Raises:
            CollectionDamaged: a file is missing or altered, or the vectors have another dimension.
            StorageError: the system refused.
        """
        if (folder / MANIFEST).exists():
            self._store = SegmentStore(folder)
        else:
            kind = {"dtype": "float16", "width": dimension, "about": dict(about or {})}
            self._store = SegmentStore.create(folder, kind=kind)
        _check_kind(self._store, dimension)
        self.dimension = int(self._store.kind["width"])

    def __enter__(self) -> "DenseWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def applied(self) -> int:
        """The catalog's sequence of the last commit."""
        return self._store.applied

    def unpublished(self) -> NDArray[np.int64]:
        """Ids of the vectors that the next commit will publish, ascending: where a stopped encoding resumes."""
        return self._store.pending_ids()

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Store vectors durably; readers see them after `commit`.

        Args:
            ids: int64[n], none stored yet.
            vectors: float32[n, dimension], L2-normalised.

        Raises:
            StorageError: the system refused to write; nothing changed.
            ValueError: a NaN, an infinity, a vector that is not normalised, an id stored already or negative.
        """
        vectors = np.asarray(vectors, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise ValueError(f"vectors of shape {vectors.shape}, not [n, {self.dimension}]")
        if len(ids) and np.min(ids) < 0:
            raise ValueError("an id is negative")
        norms = np.linalg.norm(vectors, axis=1)
        # Written so that a NaN fails as well.
        if not (np.abs(norms - 1) <= _NORM_TOLERANCE).all():
            raise ValueError("a vector is not L2-normalised, or holds a NaN or an infinity")
        self._store.append(ids, vectors.astype(np.float16))

    def copy(self, ids: NDArray[np.int64], of: NDArray[np.int64]) -> None:
        """Store for each of `ids` (int64[n], none stored yet) the vector that a published passage has, those of `of`.

        Where that one has none, nothing is stored. Raises as `add`.
        """
        rows, found = self._store.rows(of)
        self._store.append(ids[found], rows[found])

    def delete(self, ids: NDArray[np.int64]) -> int:
        """Delete passages from the next commit on; unknown ids are ignored. Returns how many were known."""
        return self._store.delete(np.asarray(ids, np.int64))

    def commit(self, sequence: int) -> None:
        """Publish: the index is complete for the catalog's `sequence`.

        Raises:
            StorageError: the system refused to write; commit can be called again. Readers see what they saw, or all
                that is new when only the FAISS index of a large collection could not be written.
            DependencyMissing: a large collection needs FAISS; the vectors are published all the same.
        """
        detach_if_overtaken(self._store)
        self._store.commit(sequence)
        keep_up(self._store)

    def close(self) -> None:
        """Forget deletions that were not committed. The writer holds no file open."""
        self._store = SegmentStore(self._store.folder)


class DenseIndex:
    """Reads vectors as of one commit; `refresh` moves on to the latest. Safe to share among threads."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self._store = SegmentStore(folder)
        self._device = device
        self._approximate: tuple[str, ApproximateIndex | None] | None = None
        _check_kind(self._store, None)

    @classmethod
    def open(cls, folder: Path, *, device: str = "cpu") -> "DenseIndex":
        """Open for reading; nothing is written.

        Args:
            folder: where it lies.
            device: `cuda` puts the FAISS index of a large collection on the GPU, where faiss-gpu is installed.

        Raises:
            CollectionDamaged: a file is missing, truncated or foreign.
            CollectionOutdated: written by a newer fouille.
            StorageError: the system refused to read.
        """
        return cls(folder, device)

    @property
    def applied(self) -> int:
        """The catalog's sequence that this index is complete for."""
        return self._store.applied

    @property
    def count(self) -> int:
        """Passages that can be found."""
        return self._store.count

    @property
    def dimension(self) -> int:
        """Values in a vector."""
        return int(self._store.kind["width"])

    def ids(self) -> NDArray[np.int64]:
        """Ids of the passages that can be found, ascending: int64[n]."""
        return self._store.ids()

    def refresh(self) -> bool:
        """See what was committed since; returns whether anything changed. Raises as `open`."""
        return self._store.refresh()

    def verify(self) -> None:
        """Check every byte. Raises CollectionDamaged naming the file, StorageError when the system refused to read."""
        self._store.verify()

    def search(
        self,
        vectors: NDArray[np.float32],
        k: int,
        *,
        ids: NDArray[np.int64] | None = None,
        below: int | None = None,
    ) -> list[Ranking]:
        """The k passages of largest inner product with each vector.

        Args:
            vectors: float32[q, dimension].
            k: at least 1.
            ids: int64[m]: only these passages.
            below: only passages of a smaller id.

        Returns:
            A ranking for each vector, of k passages where as many are allowed.

        Raises:
            CollectionDamaged: a file read does not match its checksum.
            DependencyMissing: a large collection needs FAISS.
            ValueError: vectors of another shape, a NaN or an infinity, k below 1.
        """
        vectors = np.ascontiguousarray(vectors, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise ValueError(f"vectors of shape {vectors.shape}, not [q, {self.dimension}]")
        if not np.isfinite(vectors).all():
            raise ValueError("a vector holds a NaN or an infinity")
        if k < 1:
            raise ValueError(f"k is {k}, not at least 1")
        selections = self._select(None if ids is None else np.unique(ids), below)
        if sum(selection.size for selection in selections) > FLAT_LIMIT:
            approximate = self._open_approximate()
            if approximate is not None:
                return approximate.search(self._store, selections, vectors, k)
        return exact_search(selections, vectors, k)

    def scores(self, vector: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Exact inner products with stored vectors, as `search` gives them: float32[m]; NaN for an unknown passage.

        Args:
            vector: float32[dimension].
            ids: int64[m], in any order.

        Raises:
            CollectionDamaged: a page read does not match its checksum.
        """
        rows, found = self._store.rows(np.asarray(ids, np.int64))
        scores = inner_products(rows, np.asarray(vector, np.float32))
        scores[~found] = np.nan
        return scores

    def _open_approximate(self) -> ApproximateIndex | None:
        name = attached(self._store)
        if name is None:
            return None
        if self._approximate is None or self._approximate[0] != name:
            self._approximate = (name, ApproximateIndex.open(self._store, device=self._device))
        return self._approximate[1]

    def _select(self, ids: NDArray[np.int64] | None, below: int | None) -> list[Selection]:
        selections = []
        for segment in self._store.segments:
            _, rows = Selection.of(segment)
            if ids is not None:
                rows = segment.find(ids)
                rows = rows[rows >= 0]
            if below is not None:
                end = int(np.searchsorted(segment.ids, below))
                rows = np.arange(end) if rows is None else rows[: np.searchsorted(rows, end)]
            selections.append(Selection(segment, rows))
        return selections


def _check_kind(store: SegmentStore, dimension: int | None) -> None:
    kind = store.kind
    if kind.get("dtype") != "float16" or not isinstance(kind.get("width"), int) or "about" not in kind:
        raise damaged(store.folder, "holds no vectors")
    if dimension is not None and kind["width"] != dimension:
        raise damaged(store.folder, f"holds vectors of {kind['width']} values, not {dimension}")
