"""fouille in PyTerrier pipelines: a retriever over a collection, and a reranker.

PyTerrier drives a JVM of its own, and a process has one. Importing this module starts none, and `FouilleReranker` needs
none. A `FouilleRetriever` on BM25 starts fouille's, or joins the one that runs, or says why it cannot. Where Terrier's
own retrievers run beside it, start PyTerrier's first, with fouille's Lucene on its class path (Java 21 or newer):

    pt.java.add_jar(str(indexes.jvm.lucene_jar()))
    pt.java.init()

>>> import pandas as pd
>>> from engine.evaluation.pyterrier import FouilleReranker
>>> pairs = pd.DataFrame({
...     "qid": ["1", "1"], "query": ["qui dort ?"] * 2, "docno": ["a", "b"], "text": ["le chat dort", "il pleut"],
... })
>>> list(FouilleReranker(reranker)(pairs).columns)
['qid', 'query', 'docno', 'text', 'score', 'rank']
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.errors import DependencyMissing, EvaluationError
from engine.records import SearchOptions, document_scores

if TYPE_CHECKING:
    import pandas

    from engine.collection import Collection
    from engine.models import CrossEncoder

try:
    import pyterrier as pt
except ImportError:
    raise DependencyMissing("PyTerrier is not installed", hint="pip install python-terrier") from None

__all__ = ["FouilleReranker", "FouilleRetriever"]


def _needed(frame: "pandas.DataFrame", *columns: str) -> None:
    if missing := [column for column in columns if column not in frame.columns]:
        raise EvaluationError(f"the frame has no column {missing[0]!r}", hint=f"it needs {', '.join(columns)}")


def _ranked(frame: "pandas.DataFrame") -> "pandas.DataFrame":
    """Adds PyTerrier's rank column (from 0) and sorts by it: score descending, ties by descending docno."""
    ordered = frame.sort_values(["qid", "score", "docno"], ascending=[True, False, False], kind="stable")
    return ordered.assign(rank=ordered.groupby("qid").cumcount()).reset_index(drop=True)


class FouilleRetriever(pt.Transformer):  # type: ignore[misc]
    """Searches a collection: qid, query -> qid, query, docno, score, rank, text, title.

    Args:
        collection: an open collection.
        options: how to search; each document comes once.
    """

    def __init__(self, collection: "Collection", options: SearchOptions | None = None) -> None:
        self.collection = collection
        self.options = replace(options or SearchOptions(k=1000, rerank=False), per_document=1)

    def transform(self, topics: "pandas.DataFrame") -> "pandas.DataFrame":
        """Answers every topic; see the class."""
        import pandas as pd

        _needed(topics, "qid", "query")
        rows: list[dict[str, Any]] = []
        results = self.collection.search_many(topics["query"].tolist(), self.options)
        for qid, query, result in zip(topics["qid"], topics["query"], results, strict=True):
            keys, scores = document_scores(result)
            rows += [
                {"qid": qid, "query": query, "docno": key, "score": score, "text": hit.text, "title": hit.title}
                for key, score, hit in zip(keys, scores, result.hits, strict=True)
            ]
        return _ranked(pd.DataFrame(rows, columns=["qid", "query", "docno", "score", "text", "title"]))


class FouilleReranker(pt.Transformer):  # type: ignore[misc]
    """Scores pairs: qid, query, docno, text -> the same with score (logits) and rank.

    Args:
        reranker: the cross-encoder.
        text: the column it reads.
    """

    def __init__(self, reranker: "CrossEncoder", text: str = "text") -> None:
        self.reranker, self.text = reranker, text

    def transform(self, pairs: "pandas.DataFrame") -> "pandas.DataFrame":
        """Scores every pair in one stream; see the class."""
        _needed(pairs, "qid", "query", "docno", self.text)
        texts = list(zip(pairs["query"], pairs[self.text], strict=True))
        logits = self.reranker.score_pairs(texts, activation="none") if texts else np.empty(0, np.float32)
        kept = pairs.drop(columns=["score", "rank"], errors="ignore")
        return _ranked(kept.assign(score=logits.astype(np.float64)))
