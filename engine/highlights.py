"""Which words of a passage match words of a question: those of the same French stem, accents and ligatures aside."""

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from engine.records import Span
from indexes.analysis import STOP_WORDS

if TYPE_CHECKING:
    import Stemmer

__all__ = ["highlights"]

_WORD = re.compile(r"\w+")
_KEPT_WORDS = 1 << 14
_LIGATURES = str.maketrans({"œ": "oe", "æ": "ae"})


@lru_cache(maxsize=1)
def _stemmer() -> "Stemmer.Stemmer":
    import Stemmer

    return Stemmer.Stemmer("french")


def _folded(word: str) -> str:
    bare = unicodedata.normalize("NFKD", word.lower().translate(_LIGATURES))
    return "".join(character for character in bare if not unicodedata.combining(character))


_STOP_WORDS = frozenset(_folded(word) for word in STOP_WORDS)


@lru_cache(maxsize=_KEPT_WORDS)
def _stems(word: str) -> frozenset[str]:
    """The stems that a word goes by, none for a stop word.

    Snowball tells a participle by its accent (protégée, employés), while many questions are typed without any: so a
    word goes by the stem of what it is, and by that of its bare letters.
    """
    folded = _folded(word)
    if folded in _STOP_WORDS or (len(folded) == 1 and not folded.isdigit()):
        return frozenset()
    stem = _stemmer().stemWord
    spelt = unicodedata.normalize("NFC", word.lower().translate(_LIGATURES))
    return frozenset({stem(folded), _folded(stem(spelt))})


def highlights(question: str, text: str) -> tuple[Span, ...]:
    """Spans of the words of `text` that share a stem with a word of `question`, in order.

    "chevaux" matches "cheval", "protégée" matches "protéger", "coeur" matches "cœur"; stop words match nothing, elided
    articles (l', qu') among them.
    """
    wanted = frozenset().union(*(_stems(word) for word in _WORD.findall(question)))
    if not wanted:
        return ()
    return tuple(word.span() for word in _WORD.finditer(text) if not wanted.isdisjoint(_stems(word[0])))
