"""Escape sequences and direction marks in a document's text."""

import pytest

from engine.terminal.sanitise import escape_json, sanitise, sanitise_line, sanitise_spans


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mrouge\x1b[0m", "rouge"),
        ("\x9b31mrouge", "rouge"),
        ("\x1b]8;;https://evil.example\x1b\\la banque\x1b]8;;\x1b\\", "la banque"),
        ("a\x1b]52;c;cm0gLXJmIC8=\x07b", "ab"),
        ("a\x9d0;title\x9cb", "ab"),
        ("\x1bP+q544e\x1b\\texte", "texte"),
        ("\x1bctexte", "texte"),
        ("\x1b(0lqk", "lqk"),
        ("accès\u202erefusé\u202c", "accèsrefusé"),
        ("\u2066a\u2069\u200e\u200fb\u061c", "ab"),
        ("un\r\ndeux\rtrois\x0cquatre\x85cinq\u2028six", "un\ndeux\ntrois\nquatre\ncinq\nsix"),
        ("a\tb", "a    b"),
        ("a\x00b\x08c\x7f", "abc"),
        ("\ufeffdébut", "début"),
        ("seul \ud800", "seul \ufffd"),
        ("l’œuvre : «\u00a0été\u00a0» 👩‍👩‍👧 العربية", "l’œuvre : «\u00a0été\u00a0» 👩‍👩‍👧 العربية"),
    ],
)
def test_what_a_terminal_would_act_on_goes_and_text_stays(text: str, shown: str) -> None:
    assert sanitise(text) == shown


def test_an_unfinished_sequence_hides_nothing_after_it() -> None:
    assert sanitise("avant \x1b]0;titre\nla suite") == "avant ]0;titre\nla suite"


def test_a_title_is_brought_onto_one_line() -> None:
    assert sanitise_line("un\n deux\u2029trois\t") == "un deux trois"


def test_spans_move_with_the_text() -> None:
    text = "\x1b[31mle cheval\x1b[0m noir"
    start = text.index("cheval")
    clean, spans = sanitise_spans(text, [(start, start + 6)])
    assert (clean, [clean[slice(*span)] for span in spans]) == ("le cheval noir", ["cheval"])


def test_overlapping_and_stray_spans_are_put_right() -> None:
    assert sanitise_spans("abcdef", [(4, 99), (0, 2), (1, 3), (5, 5)]) == ("abcdef", [(0, 2), (2, 3), (4, 6)])


def test_json_keeps_french_readable_and_escapes_the_rest() -> None:
    assert escape_json('"été \u202e\x9b\u2028"') == '"été \\u202e\\u009b\\u2028"'
