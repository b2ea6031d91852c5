"""Wrapping loses nothing and never overflows, whatever the text and the width."""

import re

from hypothesis import given
from hypothesis import strategies as st

from engine.records import Hit
from engine.terminal.render import EXCERPT_LINES, passage
from engine.terminal.sanitise import sanitise_spans
from engine.terminal.style import Style, cell_width

TEXT = st.lists(st.sampled_from([*"abcdéœ’ \n«»漢字😀\u0301\t", "\x1b[31m"]), max_size=400).map("".join)
SPANS = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 600)), max_size=8)
ANSI = re.compile("\x1b\\[[0-9;]*m")


def hit(text: str, spans: list[tuple[int, int]]) -> Hit:
    return Hit("k", 1, text, "", 0, len(text), None, None, {}, 1, 1.0, highlights=tuple(spans))


def letters(text: str, spans: list[tuple[int, int]]) -> str:
    return "".join(sanitise_spans(text, spans)[0].split())


@given(TEXT, SPANS, st.integers(20, 80), st.booleans())
def test_no_line_is_wider_than_the_terminal(text: str, spans: list[tuple[int, int]], width: int, full: bool) -> None:
    lines = passage(hit(text, spans), Style(colour=True, width=width), full=full)
    assert all(cell_width(ANSI.sub("", line)) <= max(width, 24) for line in lines)


@given(TEXT, SPANS, st.integers(20, 80))
def test_the_full_passage_loses_no_letter(text: str, spans: list[tuple[int, int]], width: int) -> None:
    lines = passage(hit(text, spans), Style(colour=True, width=width), full=True)
    assert "".join(ANSI.sub("", "".join(lines)).split()) == letters(text, spans)


@given(TEXT, SPANS, st.integers(20, 80))
def test_an_excerpt_is_short_and_comes_from_the_passage(text: str, spans: list[tuple[int, int]], width: int) -> None:
    lines = passage(hit(text, spans), Style(width=width))
    assert len(lines) <= EXCERPT_LINES
    assert "".join("".join(lines).replace("…", "").split()) in letters(text, spans)
