"""Which words of a passage answer to the words of a question: by French stem, whatever their accents and ligatures."""

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from engine.records import Span
from indexes.analysis import STOP_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import Stemmer

__all__ = ["highlights"]

_WORD = re.compile(r"\w+")
_LIGATURES = str.maketrans({"œ": "oe", "æ": "ae"})


@lru_cache(maxsize=1)
def _stemmer() -> "Stemmer.Stemmer":
    import Stemmer

    return Stemmer.Stemmer("french")


def _folded(word: str) -> str:
    bare = unicodedata.normalize("NFKD", word.lower().translate(_LIGATURES))
    return "".join(character for character in bare if not unicodedata.combining(character))


_SILENT = frozenset(_folded(word) for word in STOP_WORDS)


def _stems(text: str) -> "Iterator[tuple[Span, str]]":
    """Where each telling word stands, and its stem; elided articles (l', qu') are words of their own, and silent."""
    stem = _stemmer().stemWord
    for word in _WORD.finditer(text):
        folded = _folded(word[0])
        if folded not in _SILENT and (len(folded) > 1 or folded.isdigit()):
            yield word.span(), stem(folded)


def highlights(question: str, text: str) -> tuple[Span, ...]:
    """Spans of the words of `text` that share a stem with a word of `question`, in order.

    "chevaux" answers to "cheval", "coeur" to "cœur"; stop words answer to nothing.
    """
    wanted = {stem for _, stem in _stems(question)}
    return tuple(span for span, stem in _stems(text) if stem in wanted) if wanted else ()
