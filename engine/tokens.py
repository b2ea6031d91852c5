"""Passages' tokens, paid for once: kept in the collection by the indexer, else in the cache by the first search.

In the collection they lie under the passages' ids; in the cache under what the passages say, as a copy of a collection,
or one restored from a copy, may give an id of this one to another passage.
"""

import shutil
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.errors import CollectionDamaged, FouilleError
from engine.locking import locked
from engine.ragged import among, offsets_of, ranges
from engine.records import Ragged, passage_input
from indexes.manifest import MANIFEST
from indexes.segments import SegmentStore

if TYPE_CHECKING:
    from engine.catalog import Catalog
    from engine.models import CrossEncoder

__all__ = ["PassageTokens"]

Ids = NDArray[np.int64]
Inputs = Callable[[Ids], list[str]]

WINDOW = 4_096


class PassageTokens:
    """Tokens of one collection's passages, by tokenizer.

    Args:
        folder: in the collection; a search only reads it.
        cache: in the cache folder; what a search tokenises is kept there.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self._folder, self._cache = folder, cache
        self._stores: dict[Path, SegmentStore] = {}

    def of(self, ids: Ids, reranker: "CrossEncoder", inputs: Inputs) -> Ragged:
        """Tokens of passages, in the order of `ids` (int64[m], distinct); what is stored nowhere is tokenised."""
        tokenizer = reranker.tokenizer_hash
        parts, places = [], np.arange(len(ids))
        if (store := self._open(self._folder / tokenizer)) is not None:
            tokens, found = store.ragged(ids)
            parts.append((places[found], _taken(tokens, found)))
            places = places[~found]
        if not len(places):
            return _joined(parts, len(ids))
        texts = inputs(ids[places])
        keys = _keys(texts)
        missing = np.ones(len(keys), np.bool_)
        if (cached := self._cached(tokenizer, keys)) is not None:
            tokens, found = cached
            parts.append((places[found], _taken(tokens, found)))
            missing = ~found
        if missing.any():
            fresh = reranker.tokenize_passages([text for text, new in zip(texts, missing, strict=True) if new])
            parts.append((places[missing], fresh))
            self._keep(keys[missing], fresh, tokenizer)
        return _joined(parts, len(ids))

    def bring_up(self, catalog: "Catalog", reranker: "CrossEncoder") -> None:
        """Tokenise what the catalog has beyond the collection's own store. The caller holds the collection's lock."""
        folder = self._folder / reranker.tokenizer_hash
        store = self._open(folder)
        applied, target = 0 if store is None else store.applied, catalog.sequence
        if applied >= target:
            return
        known, last = catalog.last_passage(applied), catalog.last_passage(target)
        if store is not None and catalog.holds(applied):
            # Up to the last, not to the last known: an interrupted run may have stored what was removed since.
            store.delete(catalog.removed(applied, target, last))
        elif store is not None:
            # Left behind while another reranker was in use: what was removed since, the catalog no longer knows.
            kept = np.union1d(store.ids(), store.pending_ids())
            store.delete(kept[~among(kept, catalog.visible(target))])
        for ids, passages in catalog.added(known, last, WINDOW):
            wanted = np.asarray(ids, np.int64)
            fresh = np.ones(len(ids), np.bool_) if store is None else ~store.stored(wanted)
            texts = [passage_input(*passage) for passage, new in zip(passages, fresh, strict=True) if new]
            tokens = reranker.tokenize_passages(texts)
            store = store or self._create(folder, tokens)
            store.append(wanted[fresh], tokens)
        if store is not None:
            store.commit(target)

    def verify(self, catalog: "Catalog") -> list[str]:
        """Problems in words, none when every store in the collection is sound and holds the catalog's passages."""
        problems = []
        for folder in sorted(self._folder.glob("*")) if self._folder.is_dir() else ():
            try:
                store = SegmentStore(folder)
                store.verify()
            except FouilleError as error:
                problems.append(str(error))
                continue
            # One left behind by another reranker has ids that the catalog has forgotten; no search asks for them.
            if catalog.holds(store.applied) and not np.array_equal(store.ids(), catalog.visible(store.applied)):
                problems.append(f"the tokens in {folder.name} are not those of the catalog's passages")
        return problems

    def refresh(self) -> None:
        """See what another process has written since."""
        for folder, store in list(self._stores.items()):
            try:
                store.refresh()
            except FouilleError as error:
                if folder.parent != self._cache:
                    raise
                self._drop_cached(folder, error)

    def _open(self, folder: Path) -> SegmentStore | None:
        if folder not in self._stores and (folder / MANIFEST).exists():
            self._stores[folder] = SegmentStore(folder)
        return self._stores.get(folder)

    def _cached(self, tokenizer: str, keys: Ids) -> "tuple[Ragged, NDArray[np.bool_]] | None":
        """What the cache holds of these keys, as `SegmentStore.ragged`; None where there is none that can be read."""
        folder = self._cache / tokenizer
        try:
            store = self._open(folder)
            return None if store is None else store.ragged(keys)
        except FouilleError as error:
            self._drop_cached(folder, error)
            return None

    def _drop_cached(self, folder: Path, error: FouilleError) -> None:
        """What the cache holds can be made again, and must not cost the answer; it is removed where it is damaged."""
        self._stores.pop(folder, None)
        if isinstance(error, CollectionDamaged):
            shutil.rmtree(folder, ignore_errors=True)

    def _create(self, folder: Path, tokens: Ragged) -> SegmentStore:
        kind = {"dtype": tokens.values.dtype.name, "width": None}
        self._stores[folder] = SegmentStore.create(folder, kind=kind)
        return self._stores[folder]

    def _keep(self, keys: Ids, tokens: Ragged, tokenizer: str) -> None:
        """Into the cache, if nobody else writes there; a cache that cannot be written costs time, not the answer."""
        folder = self._cache / tokenizer
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            with locked(self._cache):
                store = self._open(folder)
                if store is None:
                    store = self._create(folder, tokens)
                store.refresh()
                new = ~store.stored(keys)
                new &= np.isin(np.arange(len(keys)), np.unique(keys, return_index=True)[1])  # two may say the same
                store.append(keys[new], _taken(tokens, new))
                store.commit(store.applied)
        except (FouilleError, OSError):
            self._stores.pop(folder, None)


def _keys(texts: Sequence[str]) -> Ids:
    """What passages lie under in the cache, int64[m]: 63 bits of a hash of what the reranker reads."""
    digests = b"".join(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, np.int64) & np.int64(2**63 - 1)


def _taken(rows: Ragged, keep: NDArray[np.bool_]) -> Ragged:
    """Only some of the rows."""
    if keep.all():
        return rows
    lengths = np.diff(rows.offsets)
    return Ragged(rows.values[np.repeat(keep, lengths)], offsets_of(lengths[keep]))


def _joined(parts: list[tuple[NDArray[np.intp], Ragged]], size: int) -> Ragged:
    """Rows from several places, each with the positions it fills, as one."""
    if len(parts) == 1 and len(parts[0][0]) == size:
        return parts[0][1]
    lengths = np.zeros(size, np.int64)
    for places, rows in parts:
        lengths[places] = np.diff(rows.offsets)
    offsets = offsets_of(lengths)
    values = np.empty(int(offsets[-1]), parts[0][1].values.dtype if parts else np.uint16)
    for places, rows in parts:
        values[ranges(offsets[places], np.diff(rows.offsets))] = rows.values
    return Ragged(values, offsets)
