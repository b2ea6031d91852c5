"""Writing the BM25 index: passages in, deletions, and commits that name the catalog's sequence."""

import re
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np

from engine.errors import REBUILD, CollectionDamaged, CollectionOutdated, StorageError
from indexes.analysis import Analysis, analyzer
from indexes.bm25_queries import ID, TEXT, with_ids, without_surrogates
from indexes.lucene import Java, declare, errors_of, java_threads, own, path_of, text_of

__all__ = ["BM25Writer", "read_commit"]

_THREADS = 2
_CHUNK = 1_000  # smaller ones wait more often for Python's lock, larger ones leave a lane idle at the end
_WAITING_CHUNKS = 3
_BUFFER_MIB = 64


def read_commit(data: Java, folder: Path, analysis: Analysis) -> int | None:
    """The sequence in a commit's user data (a Java map or its entries), None when that is empty.

    Raises:
        CollectionOutdated: the index was made with another analysis.
        CollectionDamaged: the commit was not made by fouille.
    """
    stored = dict(re.findall(r"(\w+)=([\w.-]+)", text_of(data)))
    if not stored:
        return None
    if stored.get("analysis", analysis.name) != analysis.name:
        raise CollectionOutdated(
            f"the BM25 index was made with the analysis {stored['analysis']}, not {analysis.name}",
            where=folder,
            hint=REBUILD,
        )
    if not stored.get("applied", "").isdigit():
        raise CollectionDamaged("the BM25 index holds no sequence of fouille's", where=folder)
    return int(stored["applied"])


class _Lane:
    """The documents of one indexing thread, filled anew for each chunk."""

    def __init__(self, writer: Java) -> None:
        declare_writer = {"addDocuments": "(Ljava/lang/Iterable;)J", "addDocument": "(Ljava/lang/Iterable;)J"}
        self._writer = own(writer, "org/apache/lucene/index/IndexWriter", **declare_writer)
        # Classes of its own: another lane's call must not meet this lane's receiver.
        text_field = declare(
            "org/apache/lucene/document/Field",
            "(Ljava/lang/String;Ljava/lang/CharSequence;Lorg/apache/lucene/index/IndexableFieldType;)V",
            setStringValue="(Ljava/lang/String;)V",
        )
        id_field = declare("org/apache/lucene/document/LongField", "(Ljava/lang/String;J)V", setLongValue="(J)V")
        fields = declare("java/util/ArrayList", "(I)V", add="(Ljava/lang/Object;)Z")
        kind = _field_type()
        self._texts, self._ids, self._documents = [], [], []
        self._chunk = fields(_CHUNK)
        for _ in range(_CHUNK):
            text, number, document = text_field(TEXT, "", kind), id_field(ID, 0), fields(2)
            document.add(text)
            document.add(number)
            self._chunk.add(document)
            self._texts.append(text)
            self._ids.append(number)
            self._documents.append(document)

    def add(self, ids: Sequence[int], texts: Sequence[str]) -> None:
        for field, text in zip(self._texts, texts, strict=False):
            try:
                field.setStringValue(text)
            except UnicodeEncodeError:
                field.setStringValue(without_surrogates(text))
        for field, number in zip(self._ids, ids, strict=False):
            field.setLongValue(number)
        if len(ids) == _CHUNK:
            self._writer.addDocuments(self._chunk)
        else:
            for document in self._documents[: len(ids)]:
                self._writer.addDocument(document)


def _field_type() -> Java:
    """Indexed with term counts and norms; no positions, nothing stored: BM25 asks for no more."""
    kind = declare(
        "org/apache/lucene/document/FieldType",
        "()V",
        setTokenized="(Z)V",
        setIndexOptions="(Lorg/apache/lucene/index/IndexOptions;)V",
        freeze="()V",
    )()
    options = declare(
        "org/apache/lucene/index/IndexOptions",
        valueOf="static (Ljava/lang/String;)Lorg/apache/lucene/index/IndexOptions;",
    )
    counts = options.valueOf("DOCS_AND_FREQS")
    kind.setIndexOptions(counts)
    kind.setTokenized(True)
    kind.freeze()
    return kind


class BM25Writer:
    """The one writer of a BM25 index; created where there is none. Only `commit` makes anything last.

    A context manager: leaving it, with an exception or without, drops what was not committed.

    Attributes:
        applied: sequence of the last commit, 0 for a new index.

    Raises:
        CollectionBusy: another writer holds the index.
        CollectionOutdated: it was made with another analysis.
        CollectionDamaged: a file of it is missing or altered.
        StorageError: it cannot be written.
    """

    def __init__(self, folder: Path, analysis: Analysis) -> None:
        self._folder, self._analysis = Path(folder), analysis
        self._lanes: dict[int, _Lane] = {}
        self._pending: deque[Future[None]] = deque()
        self._closed = False
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot be created: {error.strerror}", where=folder) from error
        with errors_of(self._folder):
            self._open()
        self._threads = ExitStack()
        self._pool = self._threads.enter_context(java_threads(_THREADS, "bm25-writer"))
        try:
            with errors_of(self._folder):
                self.applied = read_commit(self._writer.getLiveCommitData(), self._folder, analysis) or 0
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        config = declare(
            "org/apache/lucene/index/IndexWriterConfig",
            "(Lorg/apache/lucene/analysis/Analyzer;)V",
            setRAMBufferSizeMB="(D)Lorg/apache/lucene/index/IndexWriterConfig;",
            setCommitOnClose="(Z)Lorg/apache/lucene/index/IndexWriterConfig;",
            setMergeScheduler="(Lorg/apache/lucene/index/MergeScheduler;)Lorg/apache/lucene/index/IndexWriterConfig;",
        )(analyzer(self._analysis))
        self._merges = declare("org/apache/lucene/index/ConcurrentMergeScheduler", "()V", sync="()V")()
        config.setRAMBufferSizeMB(float(_BUFFER_MIB))
        config.setCommitOnClose(False)
        config.setMergeScheduler(self._merges)
        directory = declare("org/apache/lucene/store/MMapDirectory", "(Ljava/nio/file/Path;)V", close="()V")
        self._directory = directory(path_of(self._folder))
        try:
            self._writer = declare(
                "org/apache/lucene/index/IndexWriter",
                "(Lorg/apache/lucene/store/Directory;Lorg/apache/lucene/index/IndexWriterConfig;)V",
                getLiveCommitData="()Ljava/lang/Iterable;",
                setLiveCommitData="(Ljava/lang/Iterable;)V",
                deleteDocuments="([Lorg/apache/lucene/search/Query;)J",
                flush="()V",
                commit="()J",
                rollback="()V",
            )(self._directory, config)
        except BaseException:
            self._directory.close()
            raise

    def add(self, ids: Sequence[int], texts: Sequence[str]) -> None:
        """Add passages; returns once they are handed over. A failure may show at a later call, `commit` at the latest.

        Args:
            ids: passage ids not in the index; int64 values.
            texts: one for each id. A lone surrogate in them counts as a space.
        """
        if len(ids) != len(texts):
            raise ValueError(f"{len(ids)} ids for {len(texts)} texts")
        numbers = [int(number) for number in ids]
        for start in range(0, len(numbers), _CHUNK):
            stop = start + _CHUNK
            self._pending.append(self._pool.submit(self._add_chunk, numbers[start:stop], texts[start:stop]))
            self._wait(_WAITING_CHUNKS)

    def _add_chunk(self, ids: list[int], texts: Sequence[str]) -> None:
        with errors_of(self._folder):
            lane = self._lanes.get(threading.get_ident())
            if lane is None:
                lane = self._lanes[threading.get_ident()] = _Lane(self._writer)
            lane.add(ids, texts)

    def _wait(self, allowed: int = 0) -> None:
        while len(self._pending) > allowed:
            self._pending.popleft().result()

    def delete(self, ids: Sequence[int]) -> None:
        """Delete passages by id; ids that are not in the index are passed over."""
        self._wait()
        if len(ids) == 0:
            return
        with errors_of(self._folder):
            query = with_ids(np.asarray(ids, np.int64))
            self._writer.deleteDocuments([query], pass_by_reference=False)

    def commit(self, sequence: int) -> None:
        """Make everything since the last commit last, under this sequence; all of it or, on failure, nothing."""
        self._wait()
        data = declare(
            "java/util/HashMap",
            "()V",
            put="(Ljava/lang/Object;Ljava/lang/Object;)Ljava/lang/Object;",
            entrySet="()Ljava/util/Set;",
        )()
        data.put("applied", str(int(sequence)))
        data.put("analysis", self._analysis.name)
        entries = data.entrySet()
        with errors_of(self._folder):
            # Merges that these changes called for go into this commit: a writer that closes at once would drop them.
            self._writer.flush()
            self._merges.sync()
            self._writer.setLiveCommitData(entries)
            self._writer.commit()
        self.applied = int(sequence)

    def close(self) -> None:
        """Drop what was not committed and release the index. Closing again does nothing."""
        if self._closed:
            return
        self._closed = True
        self._threads.close()
        with errors_of(self._folder):
            try:
                self._writer.rollback()
            finally:
                self._directory.close()

    def __enter__(self) -> "BM25Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
