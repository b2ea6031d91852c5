"""A session of writing to one generation of a collection: the catalog first, then every index brought up to it."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from unicodedata import is_normalized, normalize

from engine.catalog import Catalog, Origin
from engine.documents import Splitter
from engine.documents.discovery import is_there
from engine.errors import CollectionDamaged, DependencyMissing, DeviceError, ModelError
from engine.indexing import Intake, bring_up_bm25, bring_up_dense, stop_at_first
from engine.models.shelf import Shelf
from engine.reader import analysis_of, check_encoder
from engine.records import AddReport, Document, Progress, Rejection
from engine.settings import SHIPPED
from engine.timing import timed
from engine.tokens import PassageTokens

if TYPE_CHECKING:
    from engine.documents import Source
    from engine.models import BiEncoder
    from indexes.bm25 import BM25Writer

__all__ = ["Writer"]

AS_IS = Splitter.parse("none")
_NEW = 0
"""The row of a source that has none yet: no document is of it."""


class Writer:
    """Writes documents to a generation; the caller holds the collection's lock.

    Leaving the `with` block without an error brings the indexes up to the catalog and purges what they have passed.
    Leaving it with one keeps what was committed; the next writer completes it.

    Args:
        folder: the generation.
        shelf: where the encoder and the reranker come from.
        progress: called with (part, done, total) for the parts "reading", "bm25" and "encoding".
    """

    def __init__(self, folder: Path, shelf: Shelf, progress: Progress | None = None) -> None:
        self.report = AddReport()
        self.catalog = Catalog.open(folder, write=True)
        self._folder, self._shelf = folder, shelf
        self._memory: Mapping[str, Any] = self.catalog.memory()
        self._is_shown = progress is not None
        self._progress: Progress = progress or (lambda _part, _done, _total: None)
        self._open = ExitStack()
        self._open.callback(self.catalog.close)
        first_stage = self._memory["first_stage"]
        self._bm25_folder = folder / "bm25" if first_stage != "dense" else None
        self._dense_folder = folder / "dense" if first_stage != "bm25" else None
        self._bm25: BM25Writer | None = None
        self._fed = 0
        self._intake = Intake(self.catalog, self.report, self._progress, self._feed)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._open:
            if error is None:
                self._finish()

    def update(self, sources: "Sequence[Source]", *, prune: bool, strict: bool) -> None:
        """Index what the sources hold; with `prune`, remove what they brought before and hold no more.

        A document whose file is still there but was rejected this time is not pruned. Of a source that is one stream of
        records nobody knows which a rejected one was: nothing of it is pruned then. A source given twice is read once.

        Raises:
            DocumentError: with `strict`, at the first rejection, before anything is written.
            SourceNotFound: a source cannot be read or holds nothing.
        """
        sources = list({source.location: source for source in sources}.values())
        self._intake.abandoned = {row for row, one in self.catalog.sources().items() if _is_gone(one.location)}
        items = self._read_strictly(sources) if strict else {}
        self._intake.prunes = prune
        if self._is_shown:
            counts = [source.expected() for source in sources]
            self._intake.expected = None if None in counts else sum(count or 0 for count in counts)
        for source in sources:
            known = self.catalog.sources().values()
            row, name = self.catalog.source(source.name, source.location, whole=source.keeps_passages)
            self._note_overlap(source.rename(name), known)
            splitter = AS_IS if source.keeps_passages else Splitter.parse(self._memory["splitter"])
            self._intake.rejected_at.clear()
            with timed(self.report.seconds, "reading"):
                skipped: Counter[str] = Counter()
                self._intake.take(items.get(source.location) or source.rename(name).read(skipped), splitter, row)
                self.report.skipped.update(skipped)
                self._settle(row, source, name, prune=prune)
        self._note_gone()
        if guessed := +self._intake.guessed:
            listed = ", ".join(f"{name} for {count:,}" for name, count in guessed.most_common())
            self.report.notices.append(f"encodings were guessed: {listed} (fouille show KEY says so of a document)")

    def _note_gone(self) -> None:
        """Say which sources are not where they were: moved or renamed, what they brought would be found twice."""
        for row, source in self.catalog.sources().items():
            if not _is_gone(source.location):
                continue
            if keys := [key for _, key in self.catalog.keys_of_source(row)]:
                glob = f"{source.name}/*" if any(key.startswith(f"{source.name}/") for key in keys) else source.name
                still = "its document is" if len(keys) == 1 else f"its {len(keys):,} documents are"
                line = f"{source.location} is gone, and {still} still found (fouille remove {shlex.quote(glob)})"
                self.report.notices.append(line)

    def _note_overlap(self, source: "Source", others: Iterable[Origin]) -> None:
        """Say of a new source which others share documents with it: each brings them under keys of its own."""
        if source.location in {other.location for other in others}:
            return
        for other in others:
            inside = Path(source.location).is_relative_to(other.location)
            if inside or Path(other.location).is_relative_to(source.location):
                inner, outer = (source, other) if inside else (other, source)
                self.report.notices.append(f"{inner.name} lies in {outer.name}: what both hold is indexed twice")

    def _read_strictly(self, sources: "Sequence[Source]") -> "dict[str, list[Document | Rejection]]":
        """Read all before anything is written; what standard input gave, which gives it once, is kept by location."""
        seen: set[str] = set()
        names: set[str] = set()
        kept = {}
        for source in sources:
            row, name = self.catalog.named(source.name, source.location, names)
            names.add(name)
            items: Iterable[Document | Rejection] = source.rename(name).read()
            if source.kind == "stdin":
                items = kept[source.location] = list(items)
            stop_at_first(self.catalog, items, seen, _NEW if row is None else row, self._intake.abandoned)
        return kept

    def _settle(self, row: int, source: "Source", name: str, *, prune: bool) -> None:
        """Remove what the source holds no more, or say that it is still there."""
        rejected, is_folder = self._intake.rejected_at, source.kind in ("folder", "glob")
        if not prune and not is_folder:
            return
        if rejected and not is_folder:
            self.report.notices.append(f"{name}: nothing was pruned, as part of it could not be read")
            return
        broken = {key for where in rejected for key in (where, f"{name}/{where}")}
        documents = self.catalog.keys_of_source(row)
        gone = [row for row, key in documents if key not in self._intake.seen and not _lies_in(key, broken)]
        if prune:
            self._intake.forget(gone)
        elif gone:
            what = "1 document is" if len(gone) == 1 else f"{len(gone):,} documents are"
            self.report.notices.append(f"{name}: {what} no longer there, and still found (--prune removes them)")

    def add(self, documents: Iterable[Document | Rejection], *, strict: bool = False) -> None:
        """Index documents that no source brings.

        Raises:
            DocumentError: with `strict`, at the first that would be rejected, before anything is written.
        """
        if strict:
            documents = list(documents)
            stop_at_first(self.catalog, documents, set(), None, set())
        with timed(self.report.seconds, "reading"):
            self._intake.take(map(_composed, documents), Splitter.parse(self._memory["splitter"]), None)

    def carry_over(self, old: Catalog) -> bool:
        """Index again every document of another generation, under the same sources.

        Returns:
            Whether all of it could be read.
        """
        unreadable: list[CollectionDamaged] = []
        try:
            sources = old.sources()
            self.catalog.copy_sources(sources)
            for row in (*sources, None):
                splitter = AS_IS if row is not None and sources[row].whole else Splitter.parse(self._memory["splitter"])
                with timed(self.report.seconds, "reading"):
                    self._intake.take(old.documents(row, unreadable), splitter, row)
        except CollectionDamaged as error:
            unreadable.append(error)
        # What is read from the sources next is told apart from what was carried over.
        self._intake.seen.clear()
        self.report.added = 0
        return not unreadable

    def remove(self, keys: Iterable[str]) -> None:
        """Remove documents; keys that name none are ignored."""
        self._intake.forget(entry.id for entry in self.catalog.entries(list(keys)).values())

    # The indexes ------------------------------------------------------------------------------------------------

    def _feed(self, ids: list[int], texts: list[str], gone: list[int]) -> None:
        """Hand a committed transaction's passages to BM25 at once: each is read from memory, not from the catalog."""
        if not self._bm25_folder:
            return
        before = self.report.seconds.get("bm25", 0.0)
        with timed(self.report.seconds, "bm25"):
            if self._bm25 is None:
                self._bm25 = self._open_bm25(self._bm25_folder)
            else:
                self._bm25.delete(gone)
                self._bm25.add(ids, texts)
        spent = self.report.seconds["bm25"] - before
        self.report.seconds["reading"] = self.report.seconds.get("reading", 0.0) - spent
        self._fed += len(ids)
        share = self._intake.share_read
        self._progress("bm25", self._fed, round(self._fed / share) if share else None)

    def _open_bm25(self, folder: Path) -> "BM25Writer":
        """The BM25 writer, brought up to the catalog as it is now."""
        from indexes.bm25 import BM25Writer

        writer = self._open.enter_context(BM25Writer(folder, analysis_of(self._memory)))
        bring_up_bm25(self.catalog, writer, self._progress)
        return writer

    def _finish(self) -> None:
        """Bring every index up to the catalog, then purge what all have passed."""
        if not self.catalog.in_step:
            sequence = self.catalog.sequence
            if self._bm25_folder:
                with timed(self.report.seconds, "bm25"):
                    writer = self._bm25 or self._open_bm25(self._bm25_folder)
                    if writer.applied < sequence:
                        writer.commit(sequence)
            if self._dense_folder:
                with timed(self.report.seconds, "encoding"):
                    self._encode(self._dense_folder)
            with timed(self.report.seconds, "tokens"):
                self._tokenise()
            self.catalog.purge(sequence)
        self.report.passages = self.catalog.counts()["passages"]

    def _encode(self, folder: Path) -> None:
        from indexes.dense import DenseWriter
        from indexes.manifest import MANIFEST

        def encoder() -> "BiEncoder":
            found = self._shelf.encoder(self._memory["encoder"], fetch=True)
            check_encoder(self._memory, found)
            return found

        # What was only removed is removed without the encoder, which may not be at hand.
        if (folder / MANIFEST).exists():
            dimension = None
        else:
            self._progress("encoding", 0, None)  # the model is loaded first
            dimension = encoder().dimension
        with DenseWriter(folder, dimension, {"encoder": self._memory["encoder_hash"]}) as writer:
            bring_up_dense(self.catalog, writer, encoder, self._progress)

    def _tokenise(self) -> None:
        """Keep the tokens that the reranker will want, where it is at hand; a search can do without.

        The default that ships is always at hand: a collection of BM25 alone, made in seconds, does not load it.
        """
        name = self._memory["reranker"]
        if name in SHIPPED and self._dense_folder is None:
            return
        if not self._shelf.at_hand(name):
            return
        try:
            reranker = self._shelf.reranker(name)
        except (ModelError, DeviceError, DependencyMissing) as error:
            self.report.notices.append(f"passages' tokens are left to the first search: {error}")
            return
        PassageTokens(self._folder / "tokens", self._folder / "tokens").bring_up(self.catalog, reranker)


def _is_gone(location: str) -> bool:
    """Whether a source is a folder or file that is not there; of a glob, a dataset or a pipe nobody can tell."""
    if not Path(location).is_absolute() or set(location) & set("*?["):
        return False
    return not is_there(location)


def _composed(document: Document | Rejection) -> Document | Rejection:
    """In NFC, as readers give text: what is spelt otherwise no question would find."""
    if not isinstance(document, Document) or not isinstance(document.text, str) or not isinstance(document.title, str):
        return document
    text, title = document.text, document.title
    if is_normalized("NFC", text) and is_normalized("NFC", title):
        return document
    pages = tuple(len(normalize("NFC", text[:start])) for start in document.pages)
    return replace(document, text=normalize("NFC", text), title=normalize("NFC", title), pages=pages)


def _lies_in(key: str, places: Set[str]) -> bool:
    """Whether a key names one of the places, a record in one, or a file below one."""
    while key and key not in places:
        key = key[: max(key.rfind("/"), key.rfind("#"), 0)]
    return bool(key)
