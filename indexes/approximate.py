"""A FAISS index over the stored vectors, for collections too large to read whole at each question.

An inverted file of about 2 sqrt(n) cells with a byte per value proposes candidates (Jégou, Douze and Schmid 2011);
their scores come from the stored vectors. How many cells are visited is measured when the index is built: the fewest
that give back `_TARGET_RECALL` of the 100 nearest. It covers the passages up to the newest at that time, and those
added since are searched exactly; when they grow to a quarter, the writer builds it anew.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import CollectionDamaged, DependencyMissing, StorageError
from engine.records import Ranking
from indexes.durable import damaged
from indexes.exact import Selection, best_of, exact_search, inner_products
from indexes.segments import SegmentStore

__all__ = ["FLAT_LIMIT", "ApproximateIndex", "attached", "detach_if_overtaken", "keep_up", "load_faiss"]

FLAT_LIMIT = 100_000
_NAME = "faiss"
_UNCOVERED_SHARE = 0.25
_TRAINED_PER_CELL = 40
_ADDED_AT_ONCE = 16_384
_TARGET_RECALL = 0.98
_MEASURED_QUESTIONS = 128
_MEASURED_DEPTH = 100
# Passages stand in for questions when recall is measured, and are easier: seen with multilingual-e5-small, 8 cells of
# 663 gave passages a recall of 1.0 and questions 0.89.
_FEWEST_CELLS = 64
_MOST_ON_GPU = 2048


def load_faiss() -> Any:
    """The faiss module.

    Raises:
        DependencyMissing: it is not installed, or cannot be loaded (both faiss-cpu and faiss-gpu installed).
    """
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise DependencyMissing("FAISS is not installed", hint="pip install 'fouille[cpu]'") from error
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        raise DependencyMissing(
            f"FAISS cannot be loaded: {error}",
            hint="keep one of faiss-cpu and faiss-gpu; then pip install --force-reinstall 'fouille[cpu]'",
        ) from error
    if not hasattr(faiss, "read_index"):
        raise DependencyMissing("FAISS is installed but empty", hint="pip install --force-reinstall 'fouille[cpu]'")
    return faiss


def cells_for(count: int) -> int:
    """Cells of an inverted file over `count` vectors."""
    return max(1, round(2 * math.sqrt(count)))


class ApproximateIndex:
    """An opened FAISS index, and what it covers."""

    def __init__(self, index: Any, last_id: int, covered: int, probes: int, device: Any = None) -> None:
        self._index, self._device = index, device
        self._last_id, self._covered, self._probes = last_id, covered, probes

    @classmethod
    def open(cls, store: SegmentStore, *, device: str = "cpu") -> "ApproximateIndex | None":
        """Open the index attached to `store`, memory-mapped; None when there is none, or when a writer replaced it.

        Args:
            store: where it is attached.
            device: `cuda` copies it to the first GPU where FAISS can.

        Raises:
            CollectionDamaged: it does not match its checksum, which is compared before FAISS reads a byte.
            DependencyMissing: FAISS cannot be loaded.
        """
        try:
            found = store.attachment(_NAME, check=True)
        except CollectionDamaged:
            if SegmentStore(store.folder).attachment_name(_NAME) != store.attachment_name(_NAME):
                return None
            raise
        if found is None:
            return None
        path, attachment = found
        faiss = load_faiss()
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        except RuntimeError as error:
            raise damaged(path, "cannot be read by FAISS") from error
        about = attachment.about
        return cls(index, about["last_id"], about["covered"], about["probes"], _on_gpu(faiss, index, device))

    def search(
        self, store: SegmentStore, selections: Sequence[Selection], vectors: NDArray[np.float32], k: int
    ) -> list[Ranking]:
        """As `exact_search`, with recall short of 1 but the same scores, and k passages where as many are selected."""
        total = sum(selection.size for selection in selections)
        old, new = self._split(selections)
        everything = sum(selection.size for selection in old) == self._covered
        # A filter thins every cell out: visit more of them in proportion.
        probes = min(self._index.nlist, math.ceil(self._probes * max(1.0, self._covered / max(1, total))))
        count = min(k + k // 2 + 32, self._covered)  # FAISS makes room for as many as are asked for
        found = self._propose(vectors, count, probes, None if everything else self._bitmap(old))
        rankings = []
        for vector, candidates, fresh in zip(vectors, found, exact_search(new, vectors, k), strict=True):
            ids = candidates[candidates >= 0]
            rows, stored = store.rows(ids)
            ids, rows = ids[stored], rows[stored]
            best = best_of(
                np.concatenate([ids, fresh.ids]), np.concatenate([inner_products(rows, vector), fresh.scores]), k
            )
            if len(best.ids) < min(k, total):
                best = exact_search(selections, vector[None], k)[0]
            rankings.append(best)
        return rankings

    def _split(self, selections: Sequence[Selection]) -> tuple[list[Selection], list[Selection]]:
        """Selected rows that the index covers, and those added since."""
        old, new = [], []
        for segment, rows in selections:
            border = int(np.searchsorted(segment.ids, self._last_id, side="right"))
            if rows is None and border == segment.stored.rows:
                old.append(Selection(segment, None))
                continue
            chosen = np.arange(segment.stored.rows) if rows is None else rows
            cut = int(np.searchsorted(chosen, border))
            old.append(Selection(segment, chosen[:cut]))
            new.append(Selection(segment, chosen[cut:]))
        return old, new

    def _bitmap(self, selections: Sequence[Selection]) -> NDArray[np.uint8]:
        allowed = np.zeros(self._last_id + 1, np.bool_)
        for segment, rows in selections:
            allowed[segment.ids if rows is None else segment.ids[rows]] = True
        return np.packbits(allowed, bitorder="little")

    def _propose(
        self, vectors: NDArray[np.float32], count: int, probes: int, bitmap: NDArray[np.uint8] | None
    ) -> NDArray[np.int64]:
        faiss = load_faiss()
        # FAISS has no selectors on a GPU, and takes so many neighbours and cells there and no more.
        on_cpu = self._device is None or bitmap is not None or max(count, probes) > _MOST_ON_GPU
        index = self._index if on_cpu else self._device
        selector = None if bitmap is None else faiss.IDSelectorBitmap(bitmap)
        _, ids = index.search(vectors, count, params=faiss.SearchParametersIVF(nprobe=probes, sel=selector))
        found: NDArray[np.int64] = ids
        return found


def attached(store: SegmentStore) -> str | None:
    """The file of the index attached to `store`, None when there is none."""
    return store.attachment_name(_NAME)


def detach_if_overtaken(store: SegmentStore) -> None:
    """Before a commit: detach the index if the commit adds an id at or below its last one."""
    found = store.attachment(_NAME, check=False)
    pending = store.pending_ids()
    if found is not None and len(pending) and pending.min() <= found[1].about["last_id"]:
        store.detach(_NAME)


def keep_up(store: SegmentStore) -> None:
    """After a commit: build the index when the collection has outgrown exact search, or the index.

    Raises:
        DependencyMissing: FAISS cannot be loaded; the vectors are committed all the same.
        StorageError: the system refused to write; likewise.
    """
    found = store.attachment(_NAME, check=False)
    if store.count <= FLAT_LIMIT:
        store.detach(_NAME)
        return
    if found is not None:
        about = found[1].about
        ids = store.ids()
        covered = int(np.searchsorted(ids, about["last_id"], side="right"))
        stale = (len(ids) - covered) + (about["covered"] - covered)
        if stale <= _UNCOVERED_SHARE * about["covered"]:
            return
    _build(store)


def _build(store: SegmentStore) -> None:
    faiss = load_faiss()
    ids = store.ids()
    width = int(store.kind["width"])
    random = np.random.default_rng(0)
    cells = cells_for(len(ids))
    index = faiss.index_factory(width, f"IVF{cells},SQ8", faiss.METRIC_INNER_PRODUCT)
    sample = np.sort(random.choice(ids, min(len(ids), cells * _TRAINED_PER_CELL), replace=False))
    index.train(_vectors(store, sample))
    for at in range(0, len(ids), _ADDED_AT_ONCE):
        some = ids[at : at + _ADDED_AT_ONCE]
        index.add_with_ids(_vectors(store, some), some)
    questions = _vectors(store, np.sort(random.choice(ids, min(len(ids), _MEASURED_QUESTIONS), replace=False)))
    probes, recall = _measure(store, index, questions)
    about = {
        "type": f"IVF{cells},SQ8",
        "faiss": faiss.__version__,
        "covered": len(ids),
        "last_id": int(ids[-1]),
        "probes": probes,
        "recall": recall,
    }

    def write(path: Path) -> None:
        try:
            faiss.write_index(index, str(path))
        except RuntimeError as error:
            # FAISS reports a full disk as a RuntimeError of its own.
            raise StorageError("FAISS could not write its index", where=path, hint="is the disk full?") from error

    store.attach(_NAME, write, about=about)


def _measure(store: SegmentStore, index: Any, questions: NDArray[np.float32]) -> tuple[int, float]:
    """The fewest cells to visit for the recall wanted, and the recall at 100 that they gave."""
    faiss = load_faiss()
    truth = exact_search([Selection.of(segment) for segment in store.segments], questions, _MEASURED_DEPTH)
    probes = min(_FEWEST_CELLS, index.nlist)
    while True:
        params = faiss.SearchParametersIVF(nprobe=probes)
        _, found = index.search(questions, _MEASURED_DEPTH + _MEASURED_DEPTH // 2, params=params)
        shares = [np.isin(exact.ids, ids).mean() for exact, ids in zip(truth, found, strict=True)]
        recall = float(np.mean(shares))
        if recall >= _TARGET_RECALL or probes >= index.nlist:
            return probes, round(recall, 4)
        probes = min(2 * probes, index.nlist)


def _vectors(store: SegmentStore, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    rows, _ = store.rows(ids)
    return rows.astype(np.float32)


def _on_gpu(faiss: Any, index: Any, device: str) -> Any:
    if not device.startswith("cuda") or not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
        return None
    try:
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    except RuntimeError:  # the GPU's memory does not hold it: the CPU has it all the same
        return None
