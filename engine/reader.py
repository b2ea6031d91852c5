"""The reading side of one generation: its catalog, and its indexes as they are opened by the first search that asks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.catalog import Catalog
from engine.errors import REBUILD, CollectionBusy, CollectionDamaged, CollectionOutdated
from engine.models.shelf import Shelf
from engine.records import FirstStage
from engine.settings import cache_dir
from engine.tokens import PassageTokens
from indexes.analysis import DEFAULT_ANALYSIS, FRENCH_ANALYZER, Analysis
from indexes.manifest import MANIFEST

if TYPE_CHECKING:
    from engine.models import BiEncoder
    from indexes.bm25 import BM25Index
    from indexes.dense import DenseIndex

__all__ = ["Reader", "analysis_of", "check_encoder", "token_cache"]

_ATTEMPTS = 20
ANALYSES = {analysis.name: analysis for analysis in (DEFAULT_ANALYSIS, FRENCH_ANALYZER)}


def analysis_of(memory: Mapping[str, Any]) -> Analysis:
    """The analysis that a collection was made with.

    Raises:
        CollectionOutdated: this fouille does not know it.
    """
    name = memory["analysis"]
    if name not in ANALYSES:
        raise CollectionOutdated(f"analysed with {name!r}, which this fouille lacks", hint=REBUILD)
    return ANALYSES[name]


def check_encoder(memory: Mapping[str, Any], encoder: "BiEncoder") -> None:
    """See that vectors made now can stand beside those of the collection.

    Raises:
        CollectionOutdated: the model of that name has changed.
    """
    if memory["encoder_hash"] != encoder.hash:
        raise CollectionOutdated(
            "this encoder is not the one that the collection was made with",
            where=encoder.name,
            hint=f"bring the old one back, or {REBUILD}",
        )


def token_cache(memory: Mapping[str, Any]) -> Path:
    """Where searches keep the tokens of what a generation's indexer did not."""
    return cache_dir() / "passages" / str(memory["uuid"])


class Reader:
    """What a search reads. Nothing is written; each index is as it was at its last `refresh`.

    Args:
        folder: the generation.
        shelf: where models come from.
    """

    def __init__(self, folder: Path, shelf: Shelf) -> None:
        self.folder, self.shelf = folder, shelf
        self.catalog = Catalog.open(folder)
        self.memory = self.catalog.memory()
        self.tokens = PassageTokens(folder / "tokens", token_cache(self.memory))
        self._bm25: BM25Index | None = None
        self._dense: DenseIndex | None = None

    @property
    def has_bm25(self) -> bool:
        """Whether the collection keeps a BM25 index."""
        return bool(self.memory["first_stage"] != "dense")

    @property
    def has_dense(self) -> bool:
        """Whether the collection keeps vectors."""
        return bool(self.memory["first_stage"] != "bm25")

    @property
    def bm25(self) -> "BM25Index | None":
        """The BM25 index; None before the first writer has made it.

        Raises:
            CollectionDamaged: it was there and is not any more.
        """
        if self._bm25 is None and self.has_bm25 and self._is_made("bm25", "segments_*"):
            from indexes.bm25 import BM25Index

            self._bm25 = BM25Index.open(self.folder / "bm25", analysis_of(self.memory))
        return self._bm25

    @property
    def dense(self) -> "DenseIndex | None":
        """The dense index; None before the first writer has made it. Raises as `bm25`."""
        if self._dense is None and self.has_dense and self._is_made("dense", MANIFEST):
            from indexes.dense import DenseIndex

            self._dense = DenseIndex.open(self.folder / "dense", device=self.shelf.settings.device)
        return self._dense

    def _is_made(self, name: str, sign: str) -> bool:
        if any((self.folder / name).glob(sign)):
            return True
        if self.catalog.in_step and self.catalog.sequence:
            raise CollectionDamaged(f"the {name} index is gone", where=self.folder)
        return False

    def indexes(self, first_stage: FirstStage) -> "list[BM25Index | DenseIndex]":
        """The indexes that a first stage uses."""
        sides = (self.bm25 if first_stage != "dense" else None, self.dense if first_stage != "bm25" else None)
        return [side for side in sides if side is not None]

    def refresh(self) -> None:
        """See what was committed since."""
        self.memory = self.catalog.memory()
        for part in (self._bm25, self._dense, self.tokens):
            if part is not None:
                part.refresh()

    @contextmanager
    def steady(self, first_stage: FirstStage | None = None) -> Iterator[None]:
        """The last commit, as long as the block reads: all that the indexes name has its row, whatever writers do.

        Args:
            first_stage: whose indexes are read; None for the collection's own.

        Raises:
            CollectionBusy: it is written to faster than it can be opened.
            CollectionDamaged: nobody writes, and yet an index and the catalog are not of one time.
        """
        before: list[int] = []
        for _ in range(_ATTEMPTS):
            with self.catalog.steady():
                self.refresh()
                used = self.indexes(first_stage or self.memory["first_stage"])
                if all(self.catalog.holds(index.applied) for index in used):
                    yield
                    return
                seen = [self.catalog.sequence, *(index.applied for index in used)]
            if seen == before:
                raise CollectionDamaged("its indexes and its catalog are not of one time", where=self.folder.parent)
            before = seen
        raise CollectionBusy("it is being written to all the time", where=self.folder.parent, hint="try again")

    def close(self) -> None:
        """Let go of every file; safe to call twice."""
        if self._bm25 is not None:
            self._bm25.close()
        self.catalog.close()
