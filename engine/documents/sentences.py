"""Where French sentences, list items, paragraphs and headings begin and end."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from engine.records import Span

__all__ = ["HEADING", "PARAGRAPH", "Unit", "units"]

# How strong the boundary before a unit is.
SENTENCE, LINE, PARAGRAPH, HEADING = range(4)


class Unit(NamedTuple):
    """A sentence, or a piece of one that is too long; `boundary` says what begins with it."""

    start: int
    end: int
    words: int
    boundary: int


# Lines with something on them, one after the other.
_BLOCK = re.compile(r"\S[^\n]*(?:\n[^\S\n]*\S[^\n]*)*")
_MARKDOWN_HEADING = re.compile(r"#{1,6}[^\S\n]")
_LIST_ITEM = re.compile(r"(?:[-*+•◦‣▪–—]|\d{1,3}[.)]|[a-zA-Z]\))[^\S\n]")
_RULE = re.compile(r"[-=*_~+|\s]{3,}")
# A full stop may be followed by closing quotes and brackets, « » with a space before. The look-behind keeps a run of a
# million dots linear: only its first one starts a match.
_SENTENCE_END = re.compile(
    r"""(?<![.!?…])[.!?…]++(?:[)\]”"’']|\s?»)*+\s+ | [。！？｡।۔؟]++[」』”’)]*+\s*""",
    re.VERBOSE,
)
_LAST_TOKEN = re.compile(r"[\w.\-]+\Z")
_OPENING = " \t\n\u00a0\u202f«“‘\"'([—–-*_"
_TERMINAL = (".", "!", "?", "…", ":", ";", ",", "»", "|")

# No sentence ends at these, whatever follows. "etc." is not among them: followed by a capital it does end one.
_ABBREVIATION_LIST = """
    m mm mme mmes mlle mlles mgr dr drs pr prof st ste sts stes cf conf arts alin pp paragr sect figs éd édit coll trad
    réf ref ms mss num av apr env dép dépt tél bd bld boul capt gal gén lt sgt adj i.e e.g vs s.v c.-à-d c-à-d p.ex
    p.-ex op cit ibid loc sq sqq suiv janv févr fév juil oct nov déc resp bull cass civ crim plén c.e approx
    angl litt qqch qqn
"""
_ABBREVIATIONS = frozenset(_ABBREVIATION_LIST.split())
# Words, or letters, of their own that are abbreviations before a number: art. 5, p. 12, chap. IV, art. L. 123-4.
_BEFORE_NUMBERS = frozenset(
    {"al", "art", "ch", "chap", "col", "fig", "n", "no", "nos", "par", "sept", "tab", "tom", "vol"}
)
_NUMBER = re.compile(r"\d|[IVXLC]+\b|[LRD]\b")
_INITIALS = re.compile(r"(?:[^\W\d_]{1,2}\.-?)*[^\W\d_]")
_LINE_NUMBER = re.compile(r"(?:\d{1,3}|[IVXLC]{1,6})(?:\.\d{1,3})*")


def units(text: str, most_words: int, most_characters: int) -> list[Unit]:
    """The sentences of `text`, in order; one with more words or characters than allowed comes in pieces."""
    found: list[Unit] = []
    for start, end, boundary in _segments(text):
        for first, last in _sentences(text, start, end):
            words = len(text[first:last].split())
            if words <= most_words and last - first <= most_characters:
                found.append(Unit(first, last, words, boundary))
            else:
                found += _pieces(text, (first, last), most_words, most_characters, boundary)
            boundary = SENTENCE
    return found


def _segments(text: str) -> Iterator[tuple[int, int, int]]:
    """Paragraphs, list items, headings and lines that were ended on purpose: (start, end, boundary before)."""
    for block in _BLOCK.finditer(text):
        start, end = block.span()
        if text.find("\n", start, end) < 0:
            alone = len(text) > end and _looks_like_heading(text, start, end)
            yield start, end, HEADING if alone else PARAGRAPH
        else:
            yield from _lines(text, start, end)


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The segments of a block of several lines, hard-wrapped or not."""
    spans: list[Span] = []
    while start < end:
        stop = text.find("\n", start, end)
        stop = end if stop < 0 else stop
        spans.append((start, stop))
        start = stop + 1
    width = max(stop - begin for begin, stop in spans)
    begin, boundary = spans[0][0], _line_boundary(text, spans[0][0], PARAGRAPH)
    for (line, stop), (following, following_stop) in pairwise(spans):
        head = following
        while text[head].isspace():
            head += 1
        if (
            _MARKDOWN_HEADING.match(text, line)
            or _MARKDOWN_HEADING.match(text, head)
            or _LIST_ITEM.match(text, head)
            or _ended_on_purpose(text, (line, stop), (head, following_stop), width)
        ):
            yield begin, stop, boundary
            begin, boundary = head, _line_boundary(text, head, LINE)
    yield begin, end, boundary


def _line_boundary(text: str, start: int, otherwise: int) -> int:
    return HEADING if _MARKDOWN_HEADING.match(text, start) else otherwise


def _ended_on_purpose(text: str, line: Span, following: Span, width: int) -> bool:
    """Whether the next line's first word had ample room on this line, so that its author, not a wrapper, broke it."""
    if text[following[0]].islower():
        return False
    if _RULE.fullmatch(text, *line):
        return True
    space = text.find(" ", following[0], following[1])
    word = (space if space >= 0 else following[1]) - following[0]
    return line[1] - line[0] + 1 + word <= 0.8 * width


def _looks_like_heading(text: str, start: int, end: int) -> bool:
    """A short line on its own, with no punctuation at its end."""
    if _MARKDOWN_HEADING.match(text, start):
        return True
    line = text[start:end].rstrip()
    return (
        len(line) <= 100
        and not line.endswith(_TERMINAL)
        and " | " not in line
        and (line[0].isupper() or line[0].isdecimal())
        and _LIST_ITEM.match(line) is None
    )


def _sentences(text: str, start: int, end: int) -> Iterator[Span]:
    """The sentences of text[start:end], which starts with no white space."""
    first = start
    for match in _SENTENCE_END.finditer(text, start, end):
        if match.end() < end and _ends_sentence(text, match, first, end):
            last = match.end()
            while text[last - 1].isspace():
                last -= 1
            yield first, last
            first = match.end()
    last = end
    while last > first and text[last - 1].isspace():
        last -= 1
    if first < last:
        yield first, last


def _ends_sentence(text: str, match: re.Match[str], first: int, end: int) -> bool:
    at = match.end()
    while at < end - 1 and text[at] in _OPENING:
        at += 1
    if text[at].islower():
        return False
    stop = match.start()
    if text[stop] != "." or not text[stop + 1].isspace():
        return True
    token = _LAST_TOKEN.search(text, max(first, stop - 12), stop)
    if token is None:
        return True
    word = token.group().lstrip("-")
    if word == "J.-C":
        return True
    # "12. Installation" and "IV. Installation" number what follows when nothing stands before.
    numbers_line = token.start() == first and _LINE_NUMBER.fullmatch(word) is not None
    lowered = word.lower()
    numbered = lowered in _BEFORE_NUMBERS and _NUMBER.match(text, match.end()) is not None
    return not (numbers_line or numbered or lowered in _ABBREVIATIONS or _INITIALS.fullmatch(word))


def _pieces(text: str, sentence: Span, most_words: int, most_characters: int, boundary: int) -> Iterator[Unit]:
    """Cut a sentence that is too long: between words, and after a comma when one is near."""
    words = list(_words(text, sentence, most_characters))
    ends = [word[1] for word in words]
    first = 0
    while first < len(words):
        stop = min(first + most_words, bisect_right(ends, words[first][0] + most_characters, first))
        if stop < len(words):
            for at in range(stop, first + 2 * (stop - first) // 3, -1):
                if text[ends[at - 1] - 1] in ",;:)—–":
                    stop = at
                    break
        yield Unit(words[first][0], ends[stop - 1], stop - first, boundary)
        first, boundary = stop, SENTENCE


_WORD = re.compile(r"\S+")


def _words(text: str, span: Span, most_characters: int) -> Iterator[Span]:
    """Words; one longer than a passage may be is cut, but not between a letter and its combining marks."""
    for match in _WORD.finditer(text, *span):
        start, end = match.span()
        while end - start > most_characters:
            cut = start + most_characters
            while cut > start + most_characters // 2 and _joins(text[cut - 1], text[cut]):
                cut -= 1
            yield start, cut
            start = cut
        yield start, end


def _joins(left: str, right: str) -> bool:
    """Whether two characters are seen as one: a combining mark, a variation selector, a joiner."""
    return unicodedata.category(right).startswith("M") or "\u200d" in (left, right)
