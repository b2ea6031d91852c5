"""Whatever a document holds, a terminal only ever gets text."""

import json
import unicodedata
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from engine.terminal.formats import to_json
from engine.terminal.sanitise import sanitise, sanitise_line, sanitise_spans

# Hypothesis seldom finds an escape sequence by itself.
PIECES = st.sampled_from(
    [
        "\x1b[31m",
        "\x1b]8;;http://x\x07",
        "\x1b]52;c;QQ==\x1b\\",
        "\x9b2J",
        "\x1b",
        "\u202e",
        "\u2066",
        "\r",
        "\t",
        "\n",
        "a",
    ]
)
TEXT = st.lists(PIECES | st.text(st.characters(), max_size=5), max_size=12).map("".join)

BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def is_harmful(character: str) -> bool:
    if character == "\n":
        return False
    return unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or unicodedata.bidirectional(character) in BIDI


@given(TEXT)
@example("\x1b\x1b[31m[31mred")
@example("\x1b]0;title")
def test_no_control_character_but_the_line_feed_survives(text: str) -> None:
    assert not any(map(is_harmful, sanitise(text)))


@given(TEXT)
def test_sanitising_twice_changes_nothing_more(text: str) -> None:
    assert sanitise(sanitise(text)) == sanitise(text)


@given(TEXT)
def test_a_line_stays_one_line(text: str) -> None:
    assert "\n" not in sanitise_line(text)


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]) | st.just("\n")))
def test_plain_text_passes_unchanged(text: str) -> None:
    assert sanitise(text) == text


@given(TEXT, st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=5))
def test_spans_hold_the_same_text_made_harmless(text: str, spans: list[tuple[int, int]]) -> None:
    clean, moved = sanitise_spans(text, spans)
    assert not any(map(is_harmful, clean))
    assert all(0 <= start < end <= len(clean) for start, end in moved)
    assert all(a[1] <= b[0] for a, b in pairwise(moved))


@given(TEXT, TEXT)
def test_highlighted_text_is_what_was_marked(before: str, marked: str) -> None:
    text = f"{before}{marked}!"
    clean, moved = sanitise_spans(text, [(len(before), len(before) + len(marked))])
    assert "".join(clean[start:end] for start, end in moved) == sanitise(marked)


@given(st.text(st.characters()))
def test_json_is_exact_and_harmless(text: str) -> None:
    shown = to_json({"text": text})
    assert not any(map(is_harmful, shown))
    assert json.loads(shown) == {"text": text}
