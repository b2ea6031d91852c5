"""A document's way in: checked, split, written to the catalog in transactions, then to the indexes.

The catalog commits first; each index is brought up to it afterwards and records the sequence it has applied. Whatever
was interrupted is found by comparing the two, so the next writer completes it and nothing needs repair.
"""

import json
import shlex
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.catalog import Catalog, Entry
from engine.catalog_change import Addition, Placed
from engine.documents import Splitter, check_text
from engine.documents.reading import EMPTY
from engine.errors import CollectionDamaged, DocumentError
from engine.overlap import behind
from engine.ragged import among
from engine.records import AddReport, Document, Progress, Rejection, passage_input

if TYPE_CHECKING:
    from engine.models import BiEncoder
    from indexes.bm25 import BM25Writer
    from indexes.dense import DenseWriter

__all__ = ["Intake", "bring_up_bm25", "bring_up_dense", "stop_at_first"]

TRANSACTION_DOCUMENTS = 2_000
TRANSACTION_CHARACTERS = 8_000_000
_TOLD_EVERY = 0.1
_APART = "of files in a folder or a quoted glob, the name is part of the key"


class Accepted(NamedTuple):
    """A document that can be indexed, and the hash of its content."""

    document: Document
    content_hash: bytes


def checked(incoming: Iterable[Document | Rejection], seen: set[str]) -> Iterator[Accepted | Rejection]:
    """Documents that can be indexed, and a rejection in place of each that cannot; `seen` gathers keys."""
    for number, item in enumerate(incoming, 1):
        if isinstance(item, Rejection):
            yield item
        elif not isinstance(item, Document):
            yield Rejection(f"document {number}", f"is no Document but a {type(item).__name__}")
        elif reason := _reason_to_reject(item, seen):
            yield Rejection(str(item.key) or "(no key)", reason)
        else:
            try:
                content_hash = digest(item)
            except (TypeError, ValueError, RecursionError) as error:
                yield Rejection(item.key, f"metadata is not JSON: {error}")
                continue
            seen.add(item.key)
            yield Accepted(item, content_hash)


def _reason_to_reject(document: Document, seen: set[str]) -> str | None:
    for name in ("key", "title", "text"):
        value = getattr(document, name)
        if not isinstance(value, str):
            return f"its {name} is not text"
        if reason := check_text(value):
            return f"{name}: {reason}"
    if not document.key:
        return "no key"
    if document.key in seen:
        return f"a second document with this key in one run; {_APART}"
    return None if document.text.strip() else EMPTY


def of_another_source(
    catalog: Catalog, item: Accepted, known: Entry | None, source: int | None, abandoned: Set[int]
) -> Rejection | None:
    """A rejection where another source owns the key: it would otherwise be replaced in silence.

    What a source brought that is no longer where it was, another may take over as it is: it was moved. What says
    something else may have been edited since, or be another document of the same id.
    """
    if known is None or known.source == source:
        return None
    name = catalog.source_name(known.source)
    if known.source not in abandoned:
        return Rejection(item.document.key, f"another source, {name}, already brought this key; {_APART}")
    if known.hash == item.content_hash:
        return None
    way_out = f"fouille remove {shlex.quote(name)} makes room"
    return Rejection(
        item.document.key, f"another source, {name}, which is gone, brought something else under this key; {way_out}"
    )


def stop_at_first(
    catalog: Catalog,
    incoming: Iterable[Document | Rejection],
    seen: set[str],
    source: int | None,
    abandoned: Set[int],
) -> None:
    """Read everything and write nothing (`--strict`).

    Raises:
        DocumentError: something would be rejected; names the first.
    """
    for item in checked(incoming, seen):
        if isinstance(item, Accepted):
            known = catalog.entries([item.document.key]).get(item.document.key)
            rejection = of_another_source(catalog, item, known, source, abandoned)
        else:
            rejection = item
        if rejection:
            raise DocumentError(str(rejection), hint="nothing was written: --strict")


_DIGESTED = json.JSONEncoder(sort_keys=True, allow_nan=False)


def digest(document: Document) -> bytes:
    """16 bytes that change when anything a search could show changes.

    Raises:
        TypeError, ValueError, RecursionError: the metadata is not JSON.
    """
    parts = [document.text, document.title]
    if document.metadata or document.pages or document.has_lines:
        metadata = dict(document.metadata)
        about = _DIGESTED.encode([metadata, document.pages, document.has_lines])
        if not all(type(name) is str for name in metadata):  # numbers are stored as text, and sort otherwise
            about = _DIGESTED.encode([json.loads(json.dumps(metadata)), document.pages, document.has_lines])
        if r"\ud" in about:
            json.dumps(dict(document.metadata), ensure_ascii=False).encode()  # half of a surrogate pair is no text
        parts.append(about)
    return blake2b("\0".join(parts).encode(), digest_size=16).digest()


def split_document(document: Document, splitter: Splitter) -> list[Placed]:
    """The document's passages, each with its page or line where the file has such."""
    placed, line, reached = [], 1, 0
    for start, end in splitter.split(document.text):
        page = bisect_right(document.pages, start) if document.pages else None
        if document.has_lines:
            line += document.text.count("\n", reached, start)
            reached = start
        placed.append(Placed((start, end), page or None, line if document.has_lines else None))
    return placed


@dataclass(slots=True)
class Intake:
    """Writes a stream of documents to the catalog and, as each transaction commits, hands its passages on.

    Attributes:
        expected: about how many documents will come, None where nobody knows.
        seen: keys met in this run.
        prunes: whether a document that was emptied is one that is gone.
        abandoned: rows of sources that are no longer where they were; another may take over what they brought.
        rejected_at: where something was rejected, but for what was emptied where that is pruned.
        guessed: how many documents were written whose encoding was guessed, by its name.
    """

    catalog: Catalog
    report: AddReport
    progress: Progress
    feed: Callable[[list[int], list[str], list[int]], None]
    expected: int | None = None
    prunes: bool = False
    abandoned: Set[int] = frozenset()
    seen: set[str] = field(default_factory=set)
    rejected_at: set[str] = field(default_factory=set)
    guessed: Counter[str] = field(default_factory=Counter)

    def take(self, incoming: Iterable[Document | Rejection], splitter: Splitter, source: int | None) -> None:
        """Index what can be indexed, counting everything; `seen` and `rejected_at` gather what was met."""
        for group in self._groups(self._accepted(incoming, self.catalog.source_name(source))):
            self._write(group, splitter, source)

    def _accepted(self, incoming: Iterable[Document | Rejection], source: str) -> Iterator[Accepted]:
        for item in checked(incoming, self.seen):
            if isinstance(item, Accepted):
                yield item
            else:
                if self.prunes and item.reason == EMPTY:
                    self.report.reject(item)
                    continue
                self.rejected_at.add(item.where)
                if self.report.rejected < self.report.KEPT_REJECTIONS:
                    item = self._with_what_stays(item, source)
                self.report.reject(item)

    def _with_what_stays(self, rejection: Rejection, source: str) -> Rejection:
        """The rejection, and a word where what was indexed of it earlier can still be found."""
        keys = {rejection.where, f"{source}/{rejection.where}"} - self.seen
        if not self.catalog.entries(sorted(keys)):
            return rejection
        how = "--prune removes it" if rejection.reason == EMPTY else "fouille remove takes it away"
        return replace(rejection, reason=f"{rejection.reason}; what it said before stays ({how})")

    def _groups(self, documents: Iterable[Accepted]) -> Iterator[list[Accepted]]:
        group: list[Accepted] = []
        characters = 0
        told = monotonic()
        for item in documents:
            if (now := monotonic()) - told >= _TOLD_EVERY:
                told = now
                self._tell_read()
            group.append(item)
            characters += len(item.document.text)
            if len(group) == TRANSACTION_DOCUMENTS or characters >= TRANSACTION_CHARACTERS:
                yield group
                group, characters = [], 0
        if group:
            yield group

    def _write(self, group: Sequence[Accepted], splitter: Splitter, source: int | None) -> None:
        gone: list[int] = []
        additions: list[Addition] = []
        counts = AddReport()
        with self.catalog.change() as change:
            known = self.catalog.entries([document.key for document, _ in group])
            for item in group:
                document, content_hash = item
                entry = known.get(document.key)
                if rejection := of_another_source(self.catalog, item, entry, source, self.abandoned):
                    counts.reject(rejection)
                    self.seen.discard(document.key)  # the source whose it is may come later in this run
                elif entry is not None and (entry.hash, entry.source) == (content_hash, source):
                    counts.unchanged += 1
                else:
                    if entry is not None:
                        gone += change.remove(entry.id)
                    additions.append((document, content_hash, split_document(document, splitter)))
                    counts.added += entry is None
                    counts.updated += entry is not None
                    encoding, guessed, _ = str(document.metadata.get("encoding", "")).partition(" (guessed")
                    self.guessed[encoding] += bool(guessed)
            ids = change.add(additions, source)
        self.report.include(counts)
        self._tell_read()
        if ids or gone:
            texts = [
                passage_input(document.title, document.text[slice(*one.span)])
                for document, _, placed in additions
                for one in placed
            ]
            self.feed(ids, texts, gone)

    def _tell_read(self) -> None:
        read = len(self.seen) + self.report.rejected
        self.progress("reading", read, None if self.expected is None else max(read, self.expected))

    @property
    def share_read(self) -> float | None:
        """How much of what is expected has been read, 0 to 1; None where nobody knows."""
        read = len(self.seen) + self.report.rejected
        return min(1.0, read / self.expected) if self.expected else None

    def forget(self, documents: Iterable[int]) -> None:
        """Remove documents by row, in one transaction."""
        gone: list[int] = []
        with self.catalog.change() as change:
            for row in documents:
                gone += change.remove(row)
                self.report.removed += 1
        if gone:
            self.feed([], [], gone)


def _lag(catalog: Catalog, applied: int, name: str) -> tuple[int, int]:
    """The last passage id that an index knows, and the last that it should."""
    if applied > catalog.sequence:
        raise CollectionDamaged(f"the {name} index is ahead of the catalog", where=catalog.path.parent)
    return catalog.last_passage(applied), catalog.last_passage(catalog.sequence)


def bring_up_bm25(catalog: Catalog, writer: "BM25Writer", progress: Progress) -> None:
    """Apply to the BM25 index what the catalog has beyond it, and commit."""
    known, last = _lag(catalog, writer.applied, "BM25")
    target = catalog.sequence
    if writer.applied == target:
        return
    writer.delete(catalog.removed(writer.applied, target, known).tolist())
    done = 0
    for ids, passages in catalog.added(known, last):
        writer.add(ids, [passage_input(*passage) for passage in passages])
        done += len(ids)
        progress("bm25", done, None)
    writer.commit(target)


def bring_up_dense(
    catalog: Catalog, writer: "DenseWriter", encoder: "Callable[[], BiEncoder]", progress: Progress
) -> None:
    """Encode what the catalog has beyond the dense index, window by window, each durable; then commit.

    While one is computed, the next is read and tokenised, and the last is written. What an interrupted run has already
    encoded is not encoded again, nor what an indexed passage said that goes at the same time, as when a file was moved
    or partly edited; `encoder` is called where something is left.
    """
    known, last = _lag(catalog, writer.applied, "dense")
    target = catalog.sequence
    if writer.applied == target:
        writer.commit(target)  # the last one may have been stopped while it built the FAISS index
        return
    _take_over(catalog, writer, known, last)
    # Up to the last, not to the last known: an interrupted run may have stored what was removed since.
    writer.delete(catalog.removed(writer.applied, target, last))
    total = catalog.live_between(known, last)
    stored = writer.unpublished()
    done = len(stored)

    def encoded(more: int) -> None:
        nonlocal done
        done += more
        progress("encoding", done, total)

    def windows(size: int) -> Iterator[tuple[NDArray[np.int64], list[str]]]:
        for window, passages in catalog.added(known, last, size):
            ids = np.asarray(window, np.int64)
            if len(missing := np.flatnonzero(~among(ids, stored))):
                yield ids[missing], [passage_input(*passages[row]) for row in missing.tolist()]

    encoded(0)
    if done < total:
        model = encoder()
        with behind(writer.add) as add:
            for ids, vectors in model.encode_windows(windows(model.window), progress=encoded):
                add(ids, vectors)
    writer.commit(target)


def _take_over(catalog: Catalog, writer: "DenseWriter", known: int, last: int) -> None:
    """Give new passages the vectors of those removed since that the encoder would read the same."""
    gone = catalog.removed(writer.applied, catalog.sequence, known)
    if known == last or not len(gone):
        return
    twins: dict[bytes, int] = {}
    for ids, passages in catalog.texts_of(gone):
        twins |= zip(map(_content_of, passages), ids, strict=True)
    stored = writer.unpublished()
    for ids, passages in catalog.added(known, last):
        new = np.asarray(ids, np.int64)
        old = np.array([twins.get(_content_of(passage), -1) for passage in passages], np.int64)
        found = (old >= 0) & ~among(new, stored)
        writer.copy(new[found], old[found])


def _content_of(passage: tuple[str, str]) -> bytes:
    """16 bytes that stand for what a model reads of a passage, its (title, text)."""
    return blake2b(passage_input(*passage).encode(), digest_size=16).digest()
