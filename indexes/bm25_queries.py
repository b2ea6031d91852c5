"""Lucene queries from questions, and from the passages that a search is restricted to.

A question never meets a query parser: its text is analysed as passages are, and its terms joined by OR.
"""

import re
import unicodedata
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from indexes.analysis import Analysis, analyzer
from indexes.lucene import Java, declare, own

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ID",
    "TEXT",
    "Questions",
    "below_id",
    "by_score_then_id",
    "filtered",
    "from_id",
    "with_ids",
    "without_surrogates",
]

TEXT = "text"
ID = "id"

_MOST_TERMS = 64
_MOST_LOOKED_UP = 10_000
_LONG_QUESTION = 400  # characters; a shorter one holds few more than 64 terms
_SURROGATE = re.compile("[\ud800-\udfff]")


def without_surrogates(text: str) -> str:
    """The text with a space for each lone surrogate, which Java's strings cannot be given."""
    return _SURROGATE.sub(" ", text)


class Questions:
    """Turns questions into queries for one analysis. Threads may share it."""

    def __init__(self, analysis: Analysis) -> None:
        self._analyzer = analyzer(analysis)
        builder = declare("org/apache/lucene/util/QueryBuilder", "(Lorg/apache/lucene/analysis/Analyzer;)V")
        self._builder = own(
            builder(self._analyzer),
            "org/apache/lucene/util/QueryBuilder",
            createBooleanQuery="(Ljava/lang/String;Ljava/lang/String;)Lorg/apache/lucene/search/Query;",
        )

    def query(self, question: str, reader: Java) -> Java:
        """The question's terms as one disjunction, a repeated one counting twice; None when analysis leaves none.

        A question of more than 400 characters keeps the 64 rarest of its first 10,000 terms, each once: the common ones
        cost most and say least.
        """
        text = unicodedata.normalize("NFC", without_surrogates(question))
        if len(text) > _LONG_QUESTION:
            return self._rarest(text, reader)
        return self._builder.createBooleanQuery(TEXT, text)

    def _rarest(self, text: str, reader: Java) -> Java:
        make_term = declare("org/apache/lucene/index/Term", "(Ljava/lang/String;Ljava/lang/String;)V")
        make_query = declare("org/apache/lucene/search/TermQuery", "(Lorg/apache/lucene/index/Term;)V")
        distinct = islice(dict.fromkeys(self._terms(text)), _MOST_LOOKED_UP)
        terms = [make_term(TEXT, term) for term in distinct]
        frequencies = [int(reader.docFreq(term)) for term in terms]
        known = [place for place, frequency in enumerate(frequencies) if frequency]
        rarest = sorted(known, key=frequencies.__getitem__)[:_MOST_TERMS]
        if not rarest:
            return None
        return _joined([(make_query(terms[place]), "SHOULD") for place in rarest])

    def _terms(self, text: str) -> list[str]:
        analyse = declare(
            "io/anserini/analysis/AnalyzerUtils",
            analyze="static (Lorg/apache/lucene/analysis/Analyzer;Ljava/lang/String;)Ljava/util/List;",
        )
        join = declare(
            "java/lang/String", join="static (Ljava/lang/CharSequence;Ljava/lang/Iterable;)Ljava/lang/String;"
        )
        terms = analyse.analyze(self._analyzer, text)
        joined: str = join.join("\n", terms)
        return joined.split("\n") if joined else []


def with_ids(ids: "NDArray[np.int64]") -> Java:
    """Passages whose id is one of these."""
    return _on_ids().newSetQuery(ID, np.asarray(ids, np.int64).tolist(), pass_by_reference=False)


def below_id(limit: int) -> Java:
    """Passages whose id is smaller than the limit."""
    return _on_ids().newRangeQuery(ID, -(2**63), limit - 1)


def from_id(lowest: int) -> Java:
    """Passages whose id is this or larger."""
    return _on_ids().newRangeQuery(ID, lowest, 2**63 - 1)


def filtered(scored: Java, restriction: Java) -> Java:
    """The first query's matches and scores, where the second matches too."""
    return _joined([(scored, "MUST"), (restriction, "FILTER")])


def by_score_then_id() -> Java:
    """Lucene's Sort by descending score, then ascending id."""
    kind = "org/apache/lucene/search/SortField$Type"
    kinds = declare(kind, valueOf=f"static (Ljava/lang/String;)L{kind};")
    field = declare("org/apache/lucene/search/SortField", f"(Ljava/lang/String;L{kind};)V")
    number = declare("org/apache/lucene/search/SortedNumericSortField", f"(Ljava/lang/String;L{kind};)V")
    sort = declare("org/apache/lucene/search/Sort", "([Lorg/apache/lucene/search/SortField;)V")
    score, long = kinds.valueOf("SCORE"), kinds.valueOf("LONG")
    return sort([field(None, score), number(ID, long)])


def _on_ids() -> Java:
    return declare(
        "org/apache/lucene/document/LongField",
        newSetQuery="static (Ljava/lang/String;[J)Lorg/apache/lucene/search/Query;",
        newRangeQuery="static (Ljava/lang/String;JJ)Lorg/apache/lucene/search/Query;",
    )


def _joined(clauses: list[tuple[Java, str]]) -> Java:
    kind, occur = "org/apache/lucene/search/BooleanQuery$Builder", "org/apache/lucene/search/BooleanClause$Occur"
    builder = declare(
        kind,
        "()V",
        add=f"(Lorg/apache/lucene/search/Query;L{occur};)L{kind};",
        build="()Lorg/apache/lucene/search/BooleanQuery;",
    )()
    occurs = declare(occur, valueOf=f"static (Ljava/lang/String;)L{occur};")
    for query, name in clauses:
        role = occurs.valueOf(name)
        builder.add(query, role)
    return builder.build()
