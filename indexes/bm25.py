"""Reading the BM25 index: a question in, passages by descending score out; many questions at once.

The writer stands in `indexes.bm25_writer`.
"""

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from engine.cores import usable_cores
from engine.errors import CollectionDamaged, InvalidOption
from engine.records import Ranking
from indexes.analysis import Analysis
from indexes.bm25_queries import Questions, below_id, by_score_then_id, filtered, from_id, with_ids
from indexes.bm25_writer import BM25Writer, read_commit
from indexes.lucene import (
    SETTING_UP,
    Java,
    check_files,
    declare,
    errors_of,
    hits_of_search,
    java_threads,
    own,
    path_of,
    size_of,
    text_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DEFAULT_B", "DEFAULT_K1", "BM25Index", "BM25Writer"]

DEFAULT_K1 = 1.2
DEFAULT_B = 0.75

_MOST_SEARCHERS = 8
_ATTEMPTS = 20
_MOST_THREADS = 16
_PAGE = 100_000  # ids read at once: each costs Java some 400 bytes
_CHECKED_AT_OPENING = 64 << 20
_HIT = re.compile(r"fields=\[([^,]+), (-?\d+)\]")
_EMPTY = Ranking(np.empty(0, np.int64), np.empty(0, np.float32))


class _View:
    """One point in time of the index: a reader, and a searcher for each pair of k1 and b asked for."""

    def __init__(self, reader: Java) -> None:
        self.reader = own(
            reader,
            "org/apache/lucene/index/DirectoryReader",
            numDocs="()I",
            maxDoc="()I",
            close="()V",
            docFreq="(Lorg/apache/lucene/index/Term;)I",
            isCurrent="()Z",
            getIndexCommit="()Lorg/apache/lucene/index/IndexCommit;",
        )
        self.users = 1
        self.most = max(1, int(self.reader.maxDoc()))
        self._searchers: dict[tuple[float, float], Java] = {}
        self._lock = threading.Lock()

    def searcher(self, k1: float, b: float) -> Java:
        with self._lock:
            found = self._searchers.pop((k1, b), None)
            if found is None:
                kind = declare(
                    "org/apache/lucene/search/IndexSearcher",
                    "(Lorg/apache/lucene/index/IndexReader;)V",
                    setSimilarity="(Lorg/apache/lucene/search/similarities/Similarity;)V",
                )
                similarity = declare("org/apache/lucene/search/similarities/BM25Similarity", "(FF)V")(k1, b)
                found = kind(self.reader)
                found.setSimilarity(similarity)
                while len(self._searchers) >= _MOST_SEARCHERS:
                    del self._searchers[next(iter(self._searchers))]
            self._searchers[k1, b] = found
            return found


class BM25Index:
    """A BM25 index as it was when opened or last refreshed. Searching is safe from several threads at once."""

    def __init__(self, folder: Path, directory: Java, reader: Java, analysis: Analysis) -> None:
        """Not to be called: see `open`."""
        self._folder, self._directory, self._analysis = folder, directory, analysis
        self._lock = threading.Lock()
        self._view = _View(reader)
        self._applied = self._read_applied(self._view)
        with SETTING_UP:
            self._hits = hits_of_search()
            self._sort = by_score_then_id()
            self._questions = Questions(analysis)
        self._filters: dict[bytes, Java] = {}

    @classmethod
    def open(cls, folder: Path, analysis: Analysis) -> "BM25Index":
        """Open the last commit.

        Raises:
            CollectionDamaged: no index here, or a file of it is missing or altered.
            CollectionOutdated: it was made with another analysis.
            StorageError: it cannot be read.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise CollectionDamaged("the BM25 index is missing", where=folder)
        with errors_of(folder):
            directories = declare("org/apache/lucene/store/MMapDirectory", "(Ljava/nio/file/Path;)V", close="()V")
            directory = directories(path_of(folder))
            try:
                return cls._last_commit(folder, directory, analysis)
            except BaseException:
                directory.close()
                raise

    @classmethod
    def _last_commit(cls, folder: Path, directory: Java, analysis: Analysis) -> "BM25Index":
        attempts = 0
        while True:
            attempts += 1
            reader = _readers().open(directory)
            try:
                return cls(folder, directory, reader, analysis)
            except BaseException as error:
                overtaken = _is_overtaken(error, reader)
                reader.close()
                if not overtaken or attempts == _ATTEMPTS:
                    raise

    def _read_applied(self, view: _View) -> int:
        """What the view's commit says, once its files are known to be sound."""
        names = _files(view)
        if size_of(self._folder, names) <= _CHECKED_AT_OPENING:
            check_files(self._folder, names)
        applied = read_commit(_commit(view).getUserData(), self._folder, self._analysis)
        if applied is None:
            raise CollectionDamaged("this index was not made by fouille", where=self._folder)
        return applied

    @property
    def applied(self) -> int:
        """Sequence of the catalog that this point in time holds."""
        return self._applied

    @property
    def count(self) -> int:
        """Live passages."""
        with errors_of(self._folder), self._using() as view:
            return int(view.reader.numDocs())

    @contextmanager
    def _using(self) -> Iterator[_View]:
        """The current view, kept open until the block is left even when a refresh replaces it."""
        with self._lock:
            view = self._view
            if view.users == 0:
                raise ValueError("the BM25 index is closed")
            view.users += 1
        try:
            yield view
        finally:
            self._release(view)

    def _release(self, view: _View) -> None:
        with self._lock:
            view.users -= 1
            last = view.users == 0
        if last:
            with errors_of(self._folder):
                view.reader.close()

    def refresh(self) -> bool:
        """Move to the last commit; whether there was a newer one. Searches that run finish on the older."""
        attempts = 0
        while True:
            attempts += 1
            with errors_of(self._folder), self._using() as view:
                newer = _readers().openIfChanged(view.reader)
                if newer is None:
                    return False
                fresh = _View(newer)
                try:
                    applied = self._read_applied(fresh)
                except BaseException as error:
                    overtaken = _is_overtaken(error, fresh.reader)
                    fresh.reader.close()
                    if not overtaken or attempts == _ATTEMPTS:
                        raise
                    continue
                with self._lock:
                    old, self._view, self._applied = self._view, fresh, applied
                self._release(old)
                return True

    def search(
        self,
        question: str,
        k: int,
        *,
        k1: float | None = None,
        b: float | None = None,
        ids: "NDArray[np.int64] | None" = None,
        below: int | None = None,
    ) -> Ranking:
        """Rank passages by BM25 (Robertson and Zaragoza 2009, equation 3.15).

        Args:
            question: any text; never parsed as a query language. One of stop words alone finds nothing.
            k: passages to return at most.
            k1: term saturation, 0 or more.
            b: length normalisation, 0 to 1.
            ids: sorted int64[m], only these passages.
            below: only passages with an id smaller than this.

        Returns:
            At most k passages, by descending score, ties by ascending id.

        Raises:
            InvalidOption: k, k1 or b is out of range.
            CollectionDamaged, StorageError: the index could not be read.
        """
        return self.search_many([question], k, k1=k1, b=b, ids=ids, below=below)[0]

    def search_many(
        self,
        questions: Sequence[str],
        k: int,
        *,
        k1: float | None = None,
        b: float | None = None,
        ids: "NDArray[np.int64] | None" = None,
        below: int | None = None,
        threads: int | None = None,
    ) -> list[Ranking]:
        """`search` for each question, several at once: Lucene works outside Python's lock.

        Args:
            questions: any texts.
            k: as for `search`, and so are k1, b, ids and below.
            k1: term saturation.
            b: length normalisation.
            ids: sorted int64[m], only these passages.
            below: only passages with an id smaller than this.
            threads: how many at once; None for one per core, 16 at most.
        """
        k1, b = _checked(k, k1, b)
        with errors_of(self._folder), self._using() as view:
            searcher, restriction = view.searcher(k1, b), self._filter(ids, below)

            def rank(question: str) -> Ranking:
                with errors_of(self._folder):
                    return self._ranking(view, question, k, searcher, restriction)

            workers = len(questions)
            if workers > 1:
                workers = min(workers, threads or min(usable_cores(), _MOST_THREADS))
            if workers <= 1:
                return [rank(question) for question in questions]
            with java_threads(workers, "bm25-search") as pool:
                return list(pool.map(rank, questions))

    def reads(self, question: str) -> bool:
        """Whether analysis leaves anything of a question to look for."""
        with errors_of(self._folder), self._using() as view:
            return self._questions.query(question, view.reader) is not None

    def _ranking(self, view: _View, question: str, k: int, searcher: Java, restriction: Java) -> Ranking:
        query = self._questions.query(question, view.reader)
        if query is None:
            return _EMPTY
        if restriction is not None:
            query = filtered(query, restriction)
        found = self._best(searcher, query, min(k, view.most))
        scores = np.array([float(score) for score, _ in found], np.float32)
        return Ranking(np.array([int(number) for _, number in found], np.int64), scores)

    def _best(self, searcher: Java, query: Java, k: int) -> list[tuple[str, str]]:
        """Score and id of the k best passages, as text."""
        most = _integer(k)
        arguments = [searcher, query, self._sort, most, None, most]
        return _HIT.findall(self._hits.invokeWithArguments(arguments, pass_by_reference=False))

    def _filter(self, ids: "NDArray[np.int64] | None", below: int | None) -> Java:
        """A query for the passages allowed, None for all. The last set of ids is kept: a shell asks again."""
        queries = []
        if ids is not None:
            key = np.ascontiguousarray(ids, np.int64).tobytes()
            found = self._filters.get(key)
            if found is None:
                found = with_ids(ids)
                self._filters = {key: found}
            queries.append(found)
        if below is not None:
            queries.append(below_id(below))
        if not queries:
            return None
        return queries[0] if len(queries) == 1 else filtered(*queries)

    def ids(self) -> "NDArray[np.int64]":
        """int64[n]: ids of all live passages, ascending."""
        pages = [np.empty(0, np.int64)]
        with errors_of(self._folder), self._using() as view:
            searcher, page = view.searcher(DEFAULT_K1, DEFAULT_B), min(_PAGE, view.most)
            lowest, more = 0, True
            while more:
                found = self._best(searcher, from_id(lowest), page)  # all score the same, so by id
                pages.append(np.array([int(number) for _, number in found], np.int64))
                more = len(found) == page
                lowest = int(pages[-1].max(initial=lowest)) + 1
        return np.concatenate(pages)

    def verify(self) -> None:
        """Read every file against its checksum, and the ids against the count.

        Where a writer has taken away files of this point in time, the index moves to the last commit and checks that.

        Raises:
            CollectionDamaged: what is wrong.
        """
        attempts = 0
        while True:
            attempts += 1
            with errors_of(self._folder), self._using() as view:
                try:
                    check_files(self._folder, _files(view))
                    break
                except CollectionDamaged as error:
                    if not _is_overtaken(error, view.reader) or attempts == _ATTEMPTS:
                        raise
            self.refresh()
        ids = self.ids()
        if len(ids) != self.count or len(np.unique(ids)) != len(ids):
            raise CollectionDamaged("passages are missing or stand twice in the BM25 index", where=self._folder)

    def close(self) -> None:
        """Release files and memory. Closing again does nothing."""
        with self._lock:
            if self._directory is None:
                return
            directory, self._directory = self._directory, None
        self._release(self._view)
        with errors_of(self._folder):
            directory.close()

    def __enter__(self) -> "BM25Index":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _checked(k: int, k1: float | None, b: float | None) -> tuple[float, float]:
    k1, b = DEFAULT_K1 if k1 is None else k1, DEFAULT_B if b is None else b
    if k < 1:
        raise InvalidOption(f"{k} is not a number of hits", where="k", hint="ask for 1 or more")
    if not 0 <= k1 < float("inf"):
        raise InvalidOption(f"{k1} is out of range", where="k1", hint="give 0 or more")
    if not 0 <= b <= 1:
        raise InvalidOption(f"{b} is out of range", where="b", hint="give 0 to 1")
    return k1, b


def _is_overtaken(error: BaseException, reader: Java) -> bool:
    """Whether a file is missing only because a writer has committed meanwhile and taken the older commit's away."""
    return isinstance(error, CollectionDamaged) and not reader.isCurrent()


@lru_cache(64)
def _integer(value: int) -> Java:
    return declare("java/lang/Integer", "(I)V")(value)


def _commit(view: _View) -> Java:
    kind = "org/apache/lucene/index/IndexCommit"
    commit = view.reader.getIndexCommit()
    return own(commit, kind, getUserData="()Ljava/util/Map;", getFileNames="()Ljava/util/Collection;")


def _files(view: _View) -> list[str]:
    return re.findall(r"[\w.]+", text_of(_commit(view).getFileNames()))


def _readers() -> Java:
    return declare(
        "org/apache/lucene/index/DirectoryReader",
        open="static (Lorg/apache/lucene/store/Directory;)Lorg/apache/lucene/index/DirectoryReader;",
        openIfChanged="static (Lorg/apache/lucene/index/DirectoryReader;)Lorg/apache/lucene/index/DirectoryReader;",
    )
