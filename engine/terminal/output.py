"""Where the commands write: results to stdout, all else to stderr, a line each."""

import os
import sys
from contextlib import contextmanager
from textwrap import fill
from typing import TYPE_CHECKING

from engine.terminal.sanitise import sanitise, sanitise_line
from engine.terminal.style import Style

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO

__all__ = ["awaited", "complain", "counted", "note", "remark", "report", "say", "say_table", "say_to_a_program"]

_CLEARED = "\r\x1b[K"


def counted(number: int, what: str) -> str:
    """`1 question`, `2,000 questions`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def say(text: str) -> None:
    """Write a result, already harmless, to stdout in the locale's encoding."""
    sys.stdout.write(f"{text}\n")


def say_to_a_program(text: str) -> None:
    """Write a result to stdout in UTF-8 whatever the locale, as JSON wants it."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    say(text)


def complain(text: str, stream: "IO[str] | None" = None) -> None:
    """Write an error or a notice to a stream, stderr where none is given: one harmless line that says whose it is.

    A terminal gets it folded between words.
    """
    stream = stream or sys.stderr
    line = f"fouille: {sanitise_line(text)}"
    if stream.isatty():
        line = fill(line, Style.of(stream).width, break_long_words=False, break_on_hyphens=False)
    stream.write(f"{line}\n")
    stream.flush()


@contextmanager
def awaited(what: str, stream: "IO[str] | None" = None) -> "Iterator[None]":
    """Say on a terminal, on a line that goes when it ends, what takes so long; stderr where no stream is given."""
    stream = stream or sys.stderr
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        yield
        return
    stream.write(what)
    stream.flush()
    try:
        yield
    finally:
        stream.write(_CLEARED)
        stream.flush()


def note(lines: "Iterable[str]") -> None:
    """Write notices to stderr, a line each."""
    for line in lines:
        complain(line)


def say_table(text: str, form: str = "text") -> None:
    """Write a table to stdout, made harmless: as text in the locale's encoding, in any other form in UTF-8."""
    (say if form == "text" else say_to_a_program)(sanitise(text))


def remark(text: str) -> None:
    """Write to stderr what belongs to a result, but is none, such as its timing; `text` is harmless already."""
    sys.stderr.write(f"{text}\n")


def report(record: object, output: str, render: "Callable[[Style], str]") -> None:
    """Write a record as JSON, or as `render` shows it."""
    if output == "json":
        from engine.terminal.formats import to_json

        say_to_a_program(to_json(record))
    else:
        say(render(Style.of(sys.stdout)))
