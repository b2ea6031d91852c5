"""French analysis: how text and questions become the terms that BM25 counts."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from indexes.lucene import SETTING_UP, Java, declare, own, path_of

__all__ = [
    "DEFAULT_ANALYSIS",
    "FRENCH_ANALYZER",
    "QUESTION_WORDS",
    "STOP_WORDS",
    "Analysis",
    "analyzer",
]

Stemmer = Literal["none", "light", "minimal", "snowball"]
Folding = Literal["none", "before", "after"]

_BUILDER = "org/apache/lucene/analysis/custom/CustomAnalyzer$Builder"
_STEMMERS: dict[Stemmer, list[tuple[str, list[str]]]] = {
    "none": [],
    "light": [("fr/FrenchLightStemFilterFactory", [])],
    "minimal": [("fr/FrenchMinimalStemFilterFactory", [])],
    "snowball": [("snowball/SnowballPorterFilterFactory", ["language", "French"])],
}


@dataclass(frozen=True, slots=True)
class Analysis:
    """A chain of Lucene's: standard tokenizer, elision, lower case, stop words, folding, stemming.

    A collection remembers `name`; an index made with another one must be rebuilt.

    Attributes:
        name: names the chain and its version, in letters, digits and `-`.
        stop_words: removed after lower case and elision; None for Lucene's own FrenchAnalyzer, whole.
        folding: whether accents and ligatures fall (`cœur` becomes `coeur`) before the stemmer or after it.
        stemmer: light and minimal are Savoy's, snowball is Porter's.
    """

    name: str
    stop_words: frozenset[str] | None
    folding: Folding = "before"
    stemmer: Stemmer = "snowball"


_FUNCTION = """
    le la les l un une des du de d au aux à a et ou en dans par pour sur avec ce cet cette ces c ceci cela ça ca je j tu
    il elle on nous vous ils elles me m te t se s lui leur leurs y moi toi soi eux mon ton son ma ta sa mes tes ses
    notre votre nos vos ne n que qu qui dont mais est sont ai ont
"""

_QUESTION = "comment pourquoi quel quelle quels quelles quand combien où quoi lequel laquelle lesquels lesquelles"

QUESTION_WORDS = frozenset(_QUESTION.split())

STOP_WORDS = frozenset(_FUNCTION.split()) | QUESTION_WORDS
"""Articles, pronouns, prepositions and question words. Unlike Snowball's list it spares what means something else too
(`été`, `avions`), and without question words a question matches what it asks about, not passages that ask."""

FRENCH_ANALYZER = Analysis("lucene-french", None, "none", "light")
"""Lucene's FrenchAnalyzer, what pyserini calls `fr`: the one to compare with."""

DEFAULT_ANALYSIS = Analysis("french-1", STOP_WORDS, "before", "light")
"""Chosen by `tests/benchmarks/analysis.py`: at or above FrenchAnalyzer on each collection, unharmed by capitals without
accents. Snowball's stemmer had the higher mean (.6207 against .6171; the two were not tested against each other) and
takes half as long again to index.

An index remembers the name alone: a chain that changes takes another name."""


@cache
def analyzer(analysis: Analysis) -> Java:
    """The chain as a Lucene Analyzer. Analyzers are safe to share between threads, and are kept."""
    if analysis.stop_words is None:
        return declare("org/apache/lucene/analysis/fr/FrenchAnalyzer", "()V")()
    with SETTING_UP, TemporaryDirectory() as folder:
        Path(folder, "stop.txt").write_text("\n".join(sorted(analysis.stop_words)), "utf-8")
        loader = declare(
            "org/apache/lucene/analysis/util/FilesystemResourceLoader", "(Ljava/nio/file/Path;Ljava/lang/ClassLoader;)V"
        )
        here = own(path_of(folder), "java/nio/file/Path")
        system = declare("java/lang/ClassLoader", getSystemClassLoader="static ()Ljava/lang/ClassLoader;")
        builder = declare(
            _BUILDER,
            "(Lorg/apache/lucene/util/ResourceLoader;)V",
            withTokenizer=f"(Ljava/lang/Class;[Ljava/lang/String;)L{_BUILDER};",
            addTokenFilter=f"(Ljava/lang/Class;[Ljava/lang/String;)L{_BUILDER};",
            build="()Lorg/apache/lucene/analysis/custom/CustomAnalyzer;",
        )
        classes = system.getSystemClassLoader()
        chain = builder(loader(here, classes))
        tokenizer = declare("org/apache/lucene/analysis/standard/StandardTokenizerFactory")
        chain.withTokenizer(tokenizer, [])
        for factory, options in _filters(analysis):
            kind = declare(f"org/apache/lucene/analysis/{factory}")
            chain.addTokenFilter(kind, options)
        return chain.build()


def _filters(analysis: Analysis) -> list[tuple[str, list[str]]]:
    """The filters in order, as Lucene's factories and their options."""
    filters: list[tuple[str, list[str]]] = [("util/ElisionFilterFactory", []), ("core/LowerCaseFilterFactory", [])]
    if analysis.stop_words:
        filters.append(("core/StopFilterFactory", ["words", "stop.txt"]))
    folding: tuple[str, list[str]] = ("miscellaneous/ASCIIFoldingFilterFactory", [])
    if analysis.folding == "before":
        filters.append(folding)
    filters += _STEMMERS[analysis.stemmer]
    if analysis.folding == "after":
        filters.append(folding)
    return filters
