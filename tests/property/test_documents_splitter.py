"""What a splitter promises of any text."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.documents import Splitter
from engine.errors import InvalidOption

ORDINARY = "le la M. Mme. chat n° 1.5 12. A. d'Artagnan etc. fin. quoi ? « oui ! » … - * # ## a) L. 123-4 été"
SPECIAL = ["\n", "\n\n", "\t", "\u00a0", "x" * 1500, "e\u0301" * 700, "\u2028", "\r"]
WORDS = st.sampled_from([*ORDINARY.split(), *SPECIAL])
TEXTS = st.text(max_size=400) | st.lists(WORDS, max_size=120).map(" ".join) | st.lists(WORDS, max_size=120).map("".join)
SPLITTERS = st.tuples(st.integers(1, 40), st.integers(0, 20)).map(lambda n: Splitter(n[0], min(n[1], n[0] // 2)))


@given(TEXTS, SPLITTERS)
def test_every_character_that_is_no_space_is_in_a_passage(text: str, splitter: Splitter) -> None:
    covered = bytearray(len(text))
    for start, end in splitter.split(text):
        covered[start:end] = b"\1" * (end - start)
    assert all(covered[at] for at, character in enumerate(text) if not character.isspace())


@given(TEXTS, SPLITTERS)
def test_passages_start_and_end_with_text(text: str, splitter: Splitter) -> None:
    for start, end in splitter.split(text):
        assert 0 <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()


@given(TEXTS, SPLITTERS)
def test_passages_are_in_order_and_each_brings_something_new(text: str, splitter: Splitter) -> None:
    spans = splitter.split(text)
    for (start, end), (following_start, following_end) in pairwise(spans):
        assert start < following_start
        assert end < following_end


@given(TEXTS, SPLITTERS)
def test_passages_are_bounded(text: str, splitter: Splitter) -> None:
    for start, end in splitter.split(text):
        assert len(text[start:end].split()) <= splitter.target
        assert end - start <= max(1000, 12 * splitter.target)


@given(TEXTS, SPLITTERS)
def test_no_word_is_cut_unless_it_is_longer_than_a_passage_may_be(text: str, splitter: Splitter) -> None:
    words = [word.span() for word in re.finditer(r"\S+", text)]
    inside = {at for start, end in words if end - start <= 1000 for at in range(start + 1, end)}
    cut = inside & {edge for span in splitter.split(text) for edge in span}
    assert not cut


@given(TEXTS, SPLITTERS)
def test_a_passage_split_again_stays_whole(text: str, splitter: Splitter) -> None:
    for start, end in splitter.split(text):
        assert splitter.split(text[start:end]) == [(0, end - start)]


@given(TEXTS, SPLITTERS)
def test_the_overlap_is_no_longer_than_asked_for(text: str, splitter: Splitter) -> None:
    spans = splitter.split(text)
    for (_, end), (start, _) in pairwise(spans):
        assert len(text[start:end].split()) <= splitter.overlap


@given(TEXTS)
def test_none_keeps_the_text_whole(text: str) -> None:
    assert [text[start:end] for start, end in Splitter.parse("none").split(text)] == (
        [text.strip()] if text.strip() else []
    )


@given(SPLITTERS | st.just(Splitter(0)))
def test_a_splitter_is_read_back_from_its_name(splitter: Splitter) -> None:
    assert Splitter.parse(str(splitter)) == splitter


@pytest.mark.parametrize(
    "name",
    [
        "",
        "words",
        "words:",
        "words:0:0",
        "words:10:6",
        "words:a:b",
        "words:1:2:3",
        "words:-1",
        "mots:150:30",
        "words:²:0",
        "words:" + "9" * 5000,
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidOption):
        Splitter.parse(name)
