"""Errors and notices on stderr."""

import io

import pytest

from engine.terminal.output import awaited, complain

LONG = "/un/chemin/assez-long/vers/un/fichier.jsonl:12: this line holds no text that could be indexed (give one)"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_error_is_one_line_for_a_program() -> None:
    stream = io.StringIO()
    complain(f"{LONG}\x1b[31m\n", stream)
    assert stream.getvalue() == f"fouille: {LONG}\n"


def test_a_terminal_breaks_an_error_between_words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    complain(LONG, stream)
    lines = stream.getvalue().splitlines()
    assert " ".join(lines) == f"fouille: {LONG}"
    assert len(lines) > 2
    assert all(len(line) <= 40 or " " not in line for line in lines)


def test_what_takes_long_is_told_of_on_a_terminal_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with pytest.raises(ValueError, match="no"), awaited("searching…", stream):
        assert stream.getvalue() == "searching…"
        raise ValueError("no")
    assert stream.getvalue() == "searching…\r\x1b[K"


def test_a_program_is_told_nothing_of_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    for stream in (io.StringIO(), Terminal()):
        with awaited("searching…", stream):
            pass
        assert stream.getvalue() == ""
