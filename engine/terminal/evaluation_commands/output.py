"""Where the measuring commands write: tables to stdout, all else to stderr, a line each."""

import sys
from collections.abc import Iterable

from engine.terminal.sanitise import sanitise, sanitise_line

__all__ = ["note", "say"]


def say(text: str, form: str = "text") -> None:
    """Writes a table to stdout: as text in the locale's encoding, in a form that a program reads in UTF-8."""
    if form != "text" and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(f"{sanitise(text)}\n")


def note(lines: Iterable[str]) -> None:
    """Writes what a person should know to stderr."""
    for line in lines:
        sys.stderr.write(f"fouille: {sanitise_line(line)}\n")
