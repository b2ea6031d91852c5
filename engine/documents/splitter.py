"""From a document's text to the spans that become passages."""

from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from engine.documents.sentences import HEADING, PARAGRAPH, Unit, units
from engine.errors import InvalidOption
from engine.records import Span

__all__ = ["Splitter"]

# A passage holds at most this many characters for each word of the target. French runs at 6; only text that hardly has
# spaces (base64, URLs, Chinese) meets the limit, and without it one "word" could be the whole document.
CHARACTERS_PER_WORD = 12
SMALLEST_LIMIT = 1000
# Where a passage may end early so that the next one starts well: at a heading from half of the target, at a paragraph
# from seven tenths.
EARLIEST_CUT = {HEADING: 0.5, PARAGRAPH: 0.7}


class _Sizes(NamedTuple):
    target: int
    overlap: int
    characters: int


@dataclass(frozen=True, slots=True)
class Splitter:
    """Cuts a text into passages of whole sentences.

    Attributes:
        target: most words of a passage; 0 keeps the text whole.
        overlap: words at most that a passage repeats of the one before, in whole sentences.
    """

    target: int
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.target < 0 or self.overlap < 0 or self.overlap > self.target // 2:
            what = "a splitter's overlap goes from 0 to half of its target"
            raise InvalidOption(what, where=str(self), hint="for example words:150:30")

    @classmethod
    def parse(cls, name: str) -> "Splitter":
        """Read `words:TARGET:OVERLAP`, `words:TARGET` or `none`.

        Raises:
            InvalidOption: the name is none of these.
        """
        if name.strip() == "none":
            return cls(0)
        unit, *numbers = name.strip().split(":")
        # More than seven digits is no passage, and Python refuses to read thousands of them.
        if unit != "words" or len(numbers) not in (1, 2) or not all(n.isdecimal() and len(n) < 8 for n in numbers):
            raise InvalidOption("no such splitter", where=name, hint="use words:150:30 or none")
        sizes = [int(number) for number in numbers]
        if sizes[0] == 0:
            raise InvalidOption("a passage needs at least one word", where=name, hint="use words:150:30 or none")
        return cls(*sizes)

    def __str__(self) -> str:
        return f"words:{self.target}:{self.overlap}" if self.target else "none"

    def split(self, text: str) -> list[Span]:
        """Spans of `text`, in order, that together hold every character that is no white space.

        No span starts or ends with white space. A span holds at most `target` words and a bounded number of characters;
        sentences stay whole unless a single one is longer than that, words unless a single one is.
        """
        start = len(text) - len(text.lstrip())
        end = len(text.rstrip())
        if start >= end:
            return []
        if not self.target:
            return [(start, end)]
        sizes = _Sizes(self.target, self.overlap, max(SMALLEST_LIMIT, self.target * CHARACTERS_PER_WORD))
        if end - start <= sizes.characters and len(text[start:end].split()) <= self.target:
            return [(start, end)]
        return _assemble(units(text, sizes.target, sizes.characters), sizes)


def _assemble(sentences: list[Unit], sizes: _Sizes) -> list[Span]:
    """Fill passages with sentences, each of which fits into one."""
    before = list(accumulate((unit.words for unit in sentences), initial=0))
    spans: list[Span] = []
    first = fresh = 0
    while fresh < len(sentences):
        full = _fill(sentences, before, first, sizes)
        cut = full if full == len(sentences) else _best_cut(sentences, before, first, fresh, full, sizes.target)
        spans.append((sentences[first].start, sentences[cut - 1].end))
        first = _overlap_start(sentences, before, first, cut, sizes) if cut < len(sentences) else cut
        fresh = cut
    return spans


def _fill(sentences: list[Unit], before: list[int], first: int, sizes: _Sizes) -> int:
    """The index after the last sentence that fits into a passage which starts at `first`."""
    end = first + 1
    while (
        end < len(sentences)
        and before[end + 1] - before[first] <= sizes.target
        and sentences[end].end - sentences[first].start <= sizes.characters
    ):
        end += 1
    return end


def _best_cut(sentences: list[Unit], before: list[int], first: int, fresh: int, full: int, target: int) -> int:
    """Where to end the passage: at the strongest boundary near its end, and never between a heading and its text."""
    cut = full
    for strength, share in EARLIEST_CUT.items():
        candidates = range(full, fresh, -1)
        near = (at for at in candidates if sentences[at].boundary >= strength)
        at = next(near, None)
        if at is not None and before[at] - before[first] >= share * target:
            cut = at
            break
    while cut - 1 > fresh and sentences[cut - 1].boundary == HEADING:
        cut -= 1
    return cut


def _overlap_start(sentences: list[Unit], before: list[int], first: int, cut: int, sizes: _Sizes) -> int:
    """The sentence that the next passage starts with; a section starts at its heading and repeats nothing."""
    if sentences[cut].boundary == HEADING:
        return cut
    start = cut
    while (
        start - 1 > first
        and before[cut] - before[start - 1] <= sizes.overlap
        and before[cut + 1] - before[start - 1] <= sizes.target
        and sentences[cut].end - sentences[start - 1].start <= sizes.characters
    ):
        start -= 1
    return start
